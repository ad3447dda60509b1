//! The console's files, embedded in the binary.

/// One file.
#[derive(Clone, Copy, Debug)]
pub struct File {
    /// Where it is served.
    pub path: &'static str,
    /// Its media type.
    pub kind: &'static str,
    /// Its bytes.
    pub bytes: &'static [u8],
}

const HTML: &str = "text/html; charset=utf-8";
const CSS: &str = "text/css; charset=utf-8";
const JAVASCRIPT: &str = "text/javascript; charset=utf-8";
const SVG: &str = "image/svg+xml";

macro_rules! console_file {
    ($path:literal, $kind:expr, $file:literal) => {
        File {
            path: $path,
            kind: $kind,
            bytes: include_bytes!(concat!("../console/", $file)),
        }
    };
}

static FILES: &[File] = &[
    console_file!("/", HTML, "index.html"),
    console_file!("/console.css", CSS, "console.css"),
    console_file!("/console.js", JAVASCRIPT, "console.js"),
    console_file!("/stream.js", JAVASCRIPT, "stream.js"),
    console_file!("/list.js", JAVASCRIPT, "list.js"),
    console_file!("/icon.svg", SVG, "icon.svg"),
];

/// The file of a path; `None` when there is none.
#[must_use]
pub fn file(path: &str) -> Option<&'static File> {
    FILES.iter().find(|file| file.path == path)
}
