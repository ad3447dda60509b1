//! A report as one JSON object, its members in the order people read them.

use serde_json::{Number, Value, json};

use super::{Report, Series, Shape};

impl Report {
    /// The object as one line.
    pub fn json(&self) -> String {
        let parameters = self
            .parameters
            .iter()
            .map(|(name, value)| (name.as_str(), value.clone()));
        let results = self
            .results
            .iter()
            .map(|result| (result.name.as_str(), number(result.value)));
        let series: Vec<String> = self.series.iter().map(series).collect();
        let checks = self.checks.iter().map(|check| {
            let members = [
                ("name", check.name.as_str().into()),
                ("passed", check.passed.into()),
                ("detail", check.detail.as_str().into()),
            ];
            object(members)
        });
        let checks: Vec<String> = checks.collect();
        let members = [
            ("mode", json!(self.mode).to_string()),
            ("target", json!(self.target).to_string()),
            ("parameters", object(parameters)),
            ("results", object(results)),
            ("series", format!("[{}]", series.join(","))),
            ("checks", format!("[{}]", checks.join(","))),
            ("machine", self.machine.json().to_string()),
            ("commit", json!(self.machine.commit).to_string()),
        ];
        let members = members.map(|(name, text)| format!("\"{name}\":{text}"));
        format!("{{{}}}", members.join(","))
    }
}

/// An object whose members keep their order.
fn object<'a>(members: impl IntoIterator<Item = (&'a str, Value)>) -> String {
    let members = members.into_iter();
    let members: Vec<String> = members
        .map(|(name, value)| format!("{}:{value}", Value::from(name)))
        .collect();
    format!("{{{}}}", members.join(","))
}

/// Whole numbers without a fraction; what JSON has no number for as null.
fn number(value: f64) -> Value {
    /// Up to here every whole number has an f64 of its own.
    const WHOLE_MAX: f64 = 9_007_199_254_740_992.0;
    if value.fract() == 0.0 && value.abs() < WHOLE_MAX {
        #[expect(clippy::cast_possible_truncation, reason = "whole and below 2^53")]
        let whole = value as i64;
        return whole.into();
    }
    Number::from_f64(value).map_or(Value::Null, Value::Number)
}

fn series(series: &Series) -> String {
    let points = series
        .points
        .iter()
        .map(|(x, y)| json!([number(*x), number(*y)]));
    let shape = match series.shape {
        Shape::Line => "line",
        Shape::Bars => "bars",
        Shape::Percentiles => "percentiles",
    };
    let members = [
        ("name", Value::from(series.name.as_str())),
        ("chart", Value::from(series.chart.as_str())),
        ("shape", Value::from(shape)),
        ("x_unit", Value::from(series.x_unit.as_str())),
        ("y_unit", Value::from(series.y_unit.as_str())),
        ("points", Value::Array(points.collect())),
    ];
    let labels = Value::from(series.labels.clone());
    let labels = (!series.labels.is_empty()).then_some(("labels", labels));
    object(members.into_iter().chain(labels))
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use crate::report::{Report, Series, Shape, Unit, latency_histogram};

    #[test]
    fn the_object_has_the_members_of_the_contract() {
        let mut report = Report::new("fanout", "http://\"hub\"");
        report.parameter("subscribers", 10);
        report.count("delivered_count", 1000);
        report.result("latency_p50_us", 1.5, Unit::Micros);
        report.check_none("nothing lost", 0);
        report.series(Series {
            chart: "Deliveries".into(),
            name: "hub".into(),
            x_unit: "s".into(),
            y_unit: "events/s".into(),
            shape: Shape::Line,
            points: vec![(0.5, 2.0)],
            labels: vec![],
        });
        let mut nanos = latency_histogram();
        nanos.record_n(2_000_000, 100).unwrap();
        report.latencies("first_byte", &nanos);
        let text = report.json();
        let value: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(value["mode"], "fanout");
        assert_eq!(value["target"], "http://\"hub\"");
        assert_eq!(value["parameters"]["subscribers"], 10);
        assert_eq!(value["results"]["delivered_count"], 1000);
        assert_eq!(value["results"]["latency_p50_us"], 1.5);
        assert_eq!(value["series"][0]["points"][0][0], 0.5);
        assert_eq!(value["series"][1]["shape"], "percentiles");
        assert_eq!(value["checks"][0]["passed"], true);
        assert!(value["machine"]["kernel"].is_string());
        let micros = value["results"]["first_byte_p99_us"].as_f64().unwrap();
        assert!((1990.0..2010.0).contains(&micros), "{micros}");
        assert!(
            value["results"]["first_byte_p999_us"].is_null(),
            "of 100 none lies beyond it"
        );
        let place = |name: &str| text.find(name).unwrap();
        assert!(place("\"delivered_count\"") < place("\"latency_p50_us\""));
    }
}
