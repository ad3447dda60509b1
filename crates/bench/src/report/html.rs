//! A report as one page that needs nothing else: styles and charts are inside.

use std::fmt::Write as _;

use super::Report;
use super::figure::{label, shown};
use super::svg::{Chart, STYLE, escaped};

/// The page's own style; colours are those of the charts.
const PAGE_STYLE: &str = "\
body{margin:0 auto;max-width:820px;padding:24px 16px;background:var(--ground);color:var(--ink);\
font:15px/1.5 system-ui,sans-serif}\
h1{font-size:22px;margin:0}h2{font-size:16px;margin:32px 0 8px}\
p{margin:4px 0;color:var(--muted);overflow-wrap:anywhere}\
table{border-collapse:collapse;width:100%}\
td{padding:4px 12px 4px 0;border-bottom:1px solid var(--line);vertical-align:top}\
td.figure{text-align:right;font-variant-numeric:tabular-nums;white-space:nowrap}\
td.ok{color:var(--s2);font-weight:600}td.failed{color:var(--s4);font-weight:600}\
svg{width:100%;height:auto;display:block;margin:12px 0 20px -16px}\
code{font-size:13px}";

impl Report {
    /// The page, with a chart for each title among the series.
    pub fn html(&self) -> String {
        let (command, target) = (escaped(&self.command()), escaped(&self.target));
        let mut page = format!(
            "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
             <meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">\
             <meta name=\"color-scheme\" content=\"light dark\">\
             <title>{command}</title><style>{STYLE}{PAGE_STYLE}</style></head><body>\n\
             <h1>{command}</h1>\n<p>{target}</p>\n"
        );
        self.write_checks(&mut page);
        self.write_results(&mut page);
        for chart in Chart::of(&self.series) {
            let _ = writeln!(page, "{}", chart.element());
        }
        self.write_facts(&mut page);
        page.push_str("</body></html>\n");
        page
    }

    fn write_checks(&self, page: &mut String) {
        if self.checks.is_empty() {
            return;
        }
        page.push_str("<h2>Checks</h2>\n<table>\n");
        for check in &self.checks {
            let (class, word) = if check.passed {
                ("ok", "ok")
            } else {
                ("failed", "failed")
            };
            let (name, detail) = (escaped(&check.name), escaped(&check.detail));
            let _ = writeln!(
                page,
                "<tr><td class=\"{class}\">{word}</td><td>{name}</td>\
                 <td class=\"figure\">{detail}</td></tr>"
            );
        }
        page.push_str("</table>\n");
    }

    fn write_results(&self, page: &mut String) {
        page.push_str("<h2>Results</h2>\n<table>\n");
        for result in &self.results {
            let name = escaped(&label(&result.name));
            let figure = escaped(&shown(result.value, result.unit));
            let _ = writeln!(
                page,
                "<tr><td>{name}</td><td class=\"figure\">{figure}</td></tr>"
            );
        }
        page.push_str("</table>\n");
    }

    fn write_facts(&self, page: &mut String) {
        page.push_str("<h2>Parameters</h2>\n<table>\n");
        for (name, value) in &self.parameters {
            let plain = value
                .as_str()
                .map_or_else(|| value.to_string(), str::to_owned);
            let (name, value) = (escaped(name), escaped(&plain));
            let _ = writeln!(
                page,
                "<tr><td>{name}</td><td class=\"figure\">{value}</td></tr>"
            );
        }
        let machine = escaped(&self.machine.line());
        let _ = writeln!(page, "</table>\n<h2>Machine</h2>\n<p>{machine}</p>");
        if !self.machine.commit.is_empty() {
            let commit = escaped(&self.machine.commit);
            let _ = writeln!(page, "<p>commit <code>{commit}</code></p>");
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::report::{Report, latency_histogram};

    #[test]
    fn the_page_shows_every_figure_and_loads_nothing() {
        let mut report = Report::new("fanout", "http://hub/<x>");
        report.parameter("subscribers", 10);
        report.count("delivered_count", 1000);
        report.check_none("nothing lost", 2);
        let mut nanos = latency_histogram();
        nanos.record_n(2_000_000, 100).unwrap();
        report.latencies("latency", &nanos);
        let page = report.html();
        for part in [
            "http://hub/&lt;x&gt;",
            "1,000",
            "failed",
            "<svg",
            "latency p99",
        ] {
            assert!(page.contains(part), "{part} in {page}");
        }
        let addresses = page.matches("http").count();
        let namespaces = page.matches("http://www.w3.org/2000/svg").count();
        assert_eq!(
            addresses,
            namespaces + 1,
            "nothing is loaded from elsewhere"
        );
    }
}
