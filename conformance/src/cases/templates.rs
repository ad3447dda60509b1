//! 1.3 matching by RFC 6570 templates, as a table.

use super::nothing_before;
use crate::{Case, Target, case};
use gush_testkit::Outcome;

/// A template, what fits it, and what does not; each put behind a literal of the case's own.
struct Row {
    name: &'static str,
    template: &'static str,
    fits: &'static [&'static str],
    misses: &'static [&'static str],
}

const RULE: &str =
    "a selector that is a template matches as the reference's regular expressions do";

#[rustfmt::skip]
const ROWS: &[Row] = &[
    Row { name: "simple", template: "{id}",
          fits: &["", "1", "1,2", ".json", "a-b_c~d", "%2F", "%c3%A9", "Z9"],
          misses: &["/", "a/b", ":", "?", "a b", "\u{e9}", "a=b", "#x", "%zz", "%", "!", "a;b", "{id}x"] },
    Row { name: "simple-not-slash", template: "books/{id}",
          fits: &["books/", "books/1"],
          misses: &["books", "books/1/2", "books/1/"] },
    Row { name: "prefix", template: "{w:3}",
          fits: &["", "abc", "abcdef", "1,2"],
          misses: &["a/b", "a:b"] },
    Row { name: "two-variables", template: "{a,b}",
          fits: &["", "1", "1,2"],
          misses: &["1/2", "1;2", "a=b"] },
    Row { name: "exploded", template: "{l*}",
          fits: &["", "1", "1,2", "a=1,b=2"],
          misses: &["1/2", "a:1"] },
    Row { name: "reserved", template: "{+p}",
          fits: &["", "/a/b", "https://x.example/?q=1&r=[2]#f", "a:b;c=d,e!$'()*+@", "%20"],
          misses: &["a b", "\u{e9}", "\"", "<", "\\", "^", "|"] },
    Row { name: "fragment", template: "{#f}",
          fits: &["", "#x", "#a/b?c"],
          misses: &["x", "/x", "#a b"] },
    Row { name: "label", template: "{.e}",
          fits: &["", ".json", ".tar.gz"],
          misses: &["json", "/json", ".a/b"] },
    Row { name: "path", template: "{/a,b}",
          fits: &["", "/1", "/1/2"],
          misses: &["1", "?1", "/a b"] },
    Row { name: "path-exploded", template: "{/l*}",
          fits: &["", "/1", "/1/2/3"],
          misses: &["1", "#1"] },
    Row { name: "parameter", template: "{;u}",
          fits: &["", ";u=1"],
          misses: &["u=1", "?u=1"] },
    Row { name: "query", template: "{?q}",
          fits: &["", "?q=1", "?", "?other=1"],
          misses: &["q=1", "&q=1", "?q=a/b"] },
    Row { name: "query-several", template: "{?q,p}",
          fits: &["", "?q=1", "?q=1&p=2"],
          misses: &["q=1&p=2", "/q"] },
    Row { name: "query-exploded", template: "{?l*}",
          fits: &["", "?a=1", "?a=1&b=2"],
          misses: &["a=1", "?a b"] },
    Row { name: "continuation", template: "?x=1{&q}",
          fits: &["?x=1", "?x=1&q=1"],
          misses: &["?x=1?q=1", "&q=1"] },
    Row { name: "literals-between", template: "/books/{id}/pages{/page}.html{?q}",
          fits: &["/books/1/pages.html", "/books/1/pages/2.html", "/books//pages/2.html?q=x"],
          misses: &["/books/1/pages", "/books/1/2/pages.html", "/books/1/pagesXhtml"] },
    Row { name: "anchored-at-the-end", template: "/{id}/end",
          fits: &["/1/end"],
          misses: &["/1/end/", "/1/end/more", "/1/endmore"] },
    Row { name: "simple-never-spans-a-url", template: "{id}",
          fits: &["1"],
          misses: &["urn:uuid:7a2f", "https://x.example/1", "//x"] },
];

/// Selectors that are not templates: plain strings, equal or nothing. (`{}` is not among them: the
/// reference takes it for a variable without a name.)
const MALFORMED: &[&str] = &[
    "{", "}", "{id", "id}", "{{id}}", "{id}}", "{!x}", "{a b}", "{a:0x}",
];

pub(super) fn cases() -> Vec<Case> {
    let mut cases: Vec<Case> = ROWS
        .iter()
        .map(|row| {
            case(&format!("1.3/template-{}", row.name), &[], RULE, |t| {
                probe(t, row)
            })
        })
        .collect();
    cases.push(case(
        "1.3/template-malformed",
        &[],
        "a malformed template is a plain string: it matches itself and nothing else",
        |t| {
            for text in MALFORMED {
                let base = format!("tpl:{}:", t.unique());
                let selector = format!("{base}{text}");
                let mut stream = t.subscribe(&[("topic", &selector)])?;
                for other in ["", "1", "id", "x"] {
                    t.say(&format!("{base}{other}"), "no")?;
                }
                nothing_before(t, &mut stream, &selector).map_err(|f| f.within(text))?;
            }
            Ok(())
        },
    ));
    cases.push(case(
        "1.3/template-equal",
        &[],
        "a selector also matches the topic that is equal to it, braces and all",
        |t| {
            let selector = format!("{}/{{id}}", t.topic());
            nothing_before(t, &mut t.subscribe(&[("topic", &selector)])?, &selector)
        },
    ));
    cases.push(case(
        "1.3/template-only-in-selectors",
        &[],
        "a published topic is never a template",
        |t| {
            let topic = t.topic();
            let one = format!("{topic}/1");
            let mut stream = t.subscribe(&[("topic", &one)])?;
            t.say(&format!("{topic}/{{id}}"), "no")?;
            t.say(&format!("{topic}{{/id}}"), "no")?;
            nothing_before(t, &mut stream, &one)
        },
    ));
    cases
}

fn probe(t: &Target, row: &Row) -> Outcome<()> {
    let base = format!("tpl:{}:", t.unique());
    let end = format!("{base}marker of this stream");
    let selector = format!("{base}{}", row.template);
    let mut stream = t.subscribe(&[("topic", &selector), ("topic", &end)])?;
    for text in row.misses {
        t.say(&format!("{base}{text}"), &format!("must not fit: {text}"))?;
    }
    for text in row.fits {
        t.say(&format!("{base}{text}"), &format!("must fit: {text}"))?;
    }
    for text in row.fits {
        stream
            .expect_data(&format!("must fit: {text}"))
            .map_err(|f| f.within(row.template))?;
    }
    nothing_before(t, &mut stream, &end)
}
