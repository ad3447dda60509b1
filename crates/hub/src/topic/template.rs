//! RFC 6570 templates, matched backwards: does a topic look like an expansion of the template?
//!
//! The answer follows the reference hub's library, which turns every expression into the regular
//! expression `(first V (sep V){0,k})?` where `V` is a run, possibly empty, over a class of
//! characters and `%XX`. We keep that language and drop the regular expression engine: the set of
//! topic positions reachable after each part is carried from part to part, so the cost is topic
//! bytes times parts whatever the template, and nothing recurses.

use super::{MATCHER_EXPRESSIONS_MAX, TOPIC_BYTES_MAX};

// The positions of a topic that the parts of a template reach.
#[path = "reach.rs"]
mod reach;

/// Bits of [`CLASS`]: which classes a byte belongs to.
const SIMPLE: u8 = 1; // unreserved characters and the comma
const EQUALS: u8 = 2; // `=`, allowed in named and exploded values on top of SIMPLE
const RESERVED: u8 = 4; // unreserved and reserved characters

/// For each byte the classes it is in. `%` is in none: it only counts with two hex digits.
static CLASS: [u8; 256] = classes();

const fn classes() -> [u8; 256] {
    let mut table = [0; 256];
    let unreserved = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~";
    let mut i = 0;
    while i < unreserved.len() {
        table[unreserved[i] as usize] = SIMPLE | RESERVED;
        i += 1;
    }
    let reserved = b"!#$&'()*+,/:;=?@[]";
    let mut i = 0;
    while i < reserved.len() {
        table[reserved[i] as usize] |= RESERVED;
        i += 1;
    }
    table[b',' as usize] |= SIMPLE;
    table[b'=' as usize] |= EQUALS;
    table
}

/// Why a text is not a template we match.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TemplateError {
    /// Not RFC 6570: the caller takes it literally.
    Malformed,
    /// Over [`MATCHER_EXPRESSIONS_MAX`].
    TooManyExpressions,
}

/// A compiled template. It holds byte ranges of the text it was parsed from, not copies.
#[derive(Clone, Debug)]
pub(super) struct Template {
    /// Length of the literal before the first expression, in bytes.
    prefix_bytes: u16,
    /// Length of the literal after the last expression, in bytes.
    suffix_bytes: u16,
    /// What stands between the two: starts and ends with an expression.
    parts: Parts,
}

/// The parts of a template. Most have one or two expressions, and then no allocation of their own.
#[derive(Clone, Debug)]
enum Parts {
    One([Part; 1]),
    Three([Part; 3]),
    Many(Box<[Part]>),
}

impl Parts {
    fn new(parts: Vec<Part>) -> Self {
        parts
            .try_into()
            .map(Self::One)
            .or_else(|parts| parts.try_into().map(Self::Three))
            .unwrap_or_else(|parts| Self::Many(parts.into_boxed_slice()))
    }

    fn as_slice(&self) -> &[Part] {
        match self {
            Self::One(parts) => parts,
            Self::Three(parts) => parts,
            Self::Many(parts) => parts,
        }
    }
}

#[derive(Clone, Debug, PartialEq)]
enum Part {
    /// The bytes `from..to` of the text.
    Literal {
        from: u16,
        to: u16,
    },
    Expression(Expression),
}

/// `(first V (separator V){0,repeats})?`
#[derive(Clone, Copy, Debug, PartialEq)]
struct Expression {
    /// The byte that opens a non-empty expansion, if the operator has one.
    first: Option<u8>,
    separator: u8,
    /// How many separators may follow; [`UNLIMITED`] with an exploded variable.
    repeats: u16,
    /// Class of the first run.
    head: u8,
    /// Class of the runs behind a separator.
    tail: u8,
}

const UNLIMITED: u16 = u16::MAX;

impl Template {
    /// Parses a text of at most [`TOPIC_BYTES_MAX`] bytes that holds at least one `{`.
    pub(super) fn parse(text: &str) -> Result<Self, TemplateError> {
        debug_assert!(text.len() <= TOPIC_BYTES_MAX, "positions are kept as u16");
        let mut parts = Vec::new();
        let mut expressions_count = 0;
        let mut at = 0;
        while at < text.len() {
            let (part, end) = if text.as_bytes()[at] == b'{' {
                expressions_count += 1;
                let (expression, end) = parse_expression(text.as_bytes(), at + 1)?;
                (Part::Expression(expression), end)
            } else {
                let end = literal_end(text, at)?;
                (
                    Part::Literal {
                        from: short(at),
                        to: short(end),
                    },
                    end,
                )
            };
            at = end;
            push(&mut parts, part);
        }
        if expressions_count > MATCHER_EXPRESSIONS_MAX {
            return Err(TemplateError::TooManyExpressions);
        }
        let suffix_bytes = match parts.last() {
            Some(&Part::Literal { from, to }) => to - from,
            _ => 0,
        };
        if suffix_bytes > 0 {
            parts.pop();
        }
        let prefix_bytes = match parts.first() {
            Some(&Part::Literal { to, .. }) => to,
            Some(Part::Expression(_)) => 0,
            None => return Err(TemplateError::Malformed), // only literals: no template
        };
        if prefix_bytes > 0 {
            parts.remove(0);
        }
        Ok(Self {
            prefix_bytes,
            suffix_bytes,
            parts: Parts::new(parts),
        })
    }

    /// How many expressions it holds, less those that add nothing.
    pub(super) fn expressions(&self) -> usize {
        let is_expression = |part: &&Part| !matches!(part, Part::Literal { .. });
        self.parts.as_slice().iter().filter(is_expression).count()
    }

    /// The literal before the first expression; `text` is what the template was parsed from.
    pub(super) fn prefix<'t>(&self, text: &'t str) -> &'t str {
        &text[..usize::from(self.prefix_bytes)]
    }

    /// The literal after the last expression; `text` is what the template was parsed from.
    pub(super) fn suffix<'t>(&self, text: &'t str) -> &'t str {
        &text[text.len() - usize::from(self.suffix_bytes)..]
    }

    /// The literals between expressions; `text` is what the template was parsed from.
    pub(super) fn inner_literals<'t>(&'t self, text: &'t str) -> impl Iterator<Item = &'t str> {
        self.parts.as_slice().iter().filter_map(|part| match *part {
            Part::Literal { from, to } => Some(&text[usize::from(from)..usize::from(to)]),
            Part::Expression(_) => None,
        })
    }

    /// The template as numbers: the bytes of its literals, and one for each expression. Two that
    /// give the same accept the same topics.
    pub(super) fn program<'t>(&'t self, text: &'t str) -> impl Iterator<Item = u64> {
        let inner = self.parts.as_slice().iter().flat_map(move |part| {
            let (literal, expression) = match *part {
                Part::Literal { from, to } => (&text[usize::from(from)..usize::from(to)], None),
                Part::Expression(expression) => ("", Some(expression.number())),
            };
            literal.bytes().map(u64::from).chain(expression)
        });
        let (prefix, suffix) = (self.prefix(text), self.suffix(text));
        let prefix = prefix.bytes().map(u64::from);
        prefix.chain(inner).chain(suffix.bytes().map(u64::from))
    }

    /// Whether the topic fits; `text` is what the template was parsed from.
    pub(super) fn matches(&self, text: &str, topic: &str) -> bool {
        let middle = topic
            .strip_prefix(self.prefix(text))
            .and_then(|rest| rest.strip_suffix(self.suffix(text)));
        let Some(middle) = middle.map(str::as_bytes) else {
            return false;
        };
        reach::reach_end(self.parts.as_slice(), text.as_bytes(), middle)
    }
}

/// Appends a part, unless it accepts nothing that its neighbour does not: without this a row of
/// expressions would cost for nothing, and the same template would be many.
fn push(parts: &mut Vec<Part>, part: Part) {
    if let Part::Expression(expression) = part {
        while let Some(Part::Expression(last)) = parts.last() {
            if last.absorbs(expression) {
                return;
            }
            if !expression.absorbs(*last) {
                break;
            }
            parts.pop();
        }
    }
    parts.push(part);
}

/// A position in a template's text; [`TOPIC_BYTES_MAX`] fits.
fn short(at: usize) -> u16 {
    u16::try_from(at).unwrap_or(u16::MAX)
}

/// The end of the literal that starts at `at`.
fn literal_end(text: &str, at: usize) -> Result<usize, TemplateError> {
    let rest = &text[at..];
    let end = rest.find('{').map_or(text.len(), |length| at + length);
    let mut chars = text[at..end].char_indices();
    while let Some((offset, character)) = chars.next() {
        if character == '%' {
            if !is_percent_triplet(&text.as_bytes()[..end], at + offset) {
                return Err(TemplateError::Malformed);
            }
            chars.nth(1); // the two digits
        } else if !is_literal(character) {
            return Err(TemplateError::Malformed);
        }
    }
    Ok(end)
}

/// RFC 6570 section 2.1 without `%`. The upper ranges are ucschar and iprivate of RFC 3987.
fn is_literal(character: char) -> bool {
    match character {
        '"' | '%' | '\'' | '<' | '>' | '\\' | '^' | '`' | '{'..='}' => false,
        '!'..='~' | '\u{A0}'..='\u{FDCF}' | '\u{FDF0}'..='\u{FFEF}' => true,
        '\u{10000}'..='\u{DFFFF}' | '\u{E1000}'.. => u32::from(character) & 0xFFFE != 0xFFFE,
        _ => false,
    }
}

/// Whether `%` and two hex digits stand at `at`.
fn is_percent_triplet(bytes: &[u8], at: usize) -> bool {
    matches!(bytes.get(at..at + 3), Some([b'%', high, low])
        if high.is_ascii_hexdigit() && low.is_ascii_hexdigit())
}

/// Parses from behind the `{` to behind the `}`.
fn parse_expression(bytes: &[u8], mut at: usize) -> Result<(Expression, usize), TemplateError> {
    let byte = *bytes.get(at).ok_or(TemplateError::Malformed)?;
    let (first, separator, class, is_named) = match byte {
        b'+' => (None, b',', RESERVED, false),
        b'#' => (Some(b'#'), b',', RESERVED, false),
        b'.' => (Some(b'.'), b'.', SIMPLE, false),
        b'/' => (Some(b'/'), b'/', SIMPLE, false),
        b';' => (Some(b';'), b';', SIMPLE, true),
        b'?' => (Some(b'?'), b'&', SIMPLE, true),
        b'&' => (Some(b'&'), b'&', SIMPLE, true),
        b'=' | b',' | b'!' | b'@' | b'|' => return Err(TemplateError::Malformed),
        _ => (None, b',', SIMPLE, false),
    };
    if first.is_some() || byte == b'+' {
        at += 1;
    }
    let mut variables_count: u16 = 0;
    let (mut is_first_exploded, mut is_any_exploded) = (false, false);
    loop {
        let (is_exploded, end) = parse_variable(bytes, at)?;
        is_first_exploded |= is_exploded && variables_count == 0;
        is_any_exploded |= is_exploded;
        variables_count += 1;
        at = end + 1;
        match bytes.get(end) {
            Some(b',') => {}
            Some(b'}') => break,
            _ => return Err(TemplateError::Malformed),
        }
    }
    // The reserved class holds `=` anyway.
    let with_equals = |is_allowed: bool| class | if is_allowed { EQUALS } else { 0 };
    let expression = Expression {
        first,
        separator,
        repeats: if is_any_exploded {
            UNLIMITED
        } else {
            variables_count - 1
        },
        head: with_equals(is_named || is_first_exploded),
        tail: with_equals(is_named || is_any_exploded),
    };
    Ok((expression.simplified(), at))
}

/// Parses a variable's name and modifier; says whether it is exploded, and where it ends. The
/// name may be empty. A prefix length (`:3`) is parsed and, as in the reference, not enforced.
fn parse_variable(bytes: &[u8], mut at: usize) -> Result<(bool, usize), TemplateError> {
    loop {
        match bytes.get(at) {
            Some(b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'_' | b'.') => at += 1,
            Some(b'%') if is_percent_triplet(bytes, at) => at += 3,
            Some(b'*') => return Ok((true, at + 1)),
            Some(b':') => {
                let digits = bytes[at + 1..]
                    .iter()
                    .take_while(|byte| byte.is_ascii_digit());
                let digits_count = digits.count();
                if !(1..=4).contains(&digits_count) || bytes[at + 1] == b'0' {
                    return Err(TemplateError::Malformed);
                }
                return Ok((false, at + 1 + digits_count));
            }
            // A wrong byte is found by the caller, which expects `,` or `}` here.
            _ => return Ok((false, at)),
        }
    }
}

impl Expression {
    /// The same language in its shortest form: where the first run takes separators and all that
    /// later runs take, there is but one run. So `{a,b}` is `{a}`, and `{+a,b*}` is `{+a}`.
    fn simplified(mut self) -> Self {
        if self.head & RESERVED != 0 {
            self.head = RESERVED; // holds `=` and everything of SIMPLE
            self.tail = RESERVED;
        }
        let takes_separator = CLASS[usize::from(self.separator)] & self.head != 0;
        if takes_separator && self.tail & !self.head == 0 {
            self.repeats = 0;
        }
        if self.repeats == 0 {
            self.tail = self.head;
        }
        self
    }

    /// Whether it accepts whatever it and the other one accept in a row.
    fn absorbs(self, other: Self) -> bool {
        // Every byte of every expansion is reserved or unreserved, or part of a `%XX`.
        let takes_all = self.head == RESERVED;
        self.is_run() && (takes_all || (other.is_run() && other.head & !self.head == 0))
    }

    /// Whether it is one run of one class and nothing else.
    fn is_run(self) -> bool {
        self.first.is_none() && self.repeats == 0
    }

    /// A number that no other expression and no byte has.
    fn number(self) -> u64 {
        let first = self.first.map_or(0x1FF, u64::from);
        let bytes = [self.separator, self.head, self.tail];
        let number = bytes
            .iter()
            .fold(first, |number, &byte| number << 8 | u64::from(byte));
        0x100 | (number << 16 | u64::from(self.repeats)) << 9
    }
}
