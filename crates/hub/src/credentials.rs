//! Where a request carries its token. The first place that holds one decides: a bad token there is
//! never rescued by a good one elsewhere, so it is always clear whose grants a request has.

use std::fmt;

use http::HeaderMap;
use http::header::{AUTHORIZATION, COOKIE};

use crate::form::Pair;

#[cfg(test)]
#[path = "credentials/tests.rs"]
mod tests;

/// The shortest token looked at, in characters; the reference hub's figure. No signed token is
/// that short.
pub const TOKEN_CHARS_MIN: usize = 41;

/// The place a token was found in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// `Authorization: Bearer`.
    Header,
    /// The query parameter `authorization`.
    Query,
    /// The cookie. Browsers send it along unasked, so publishing with it needs a check of the
    /// request's origin.
    Cookie,
}

/// A token as it came, not looked into.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Credential<'r> {
    /// The token's text.
    pub token: &'r str,
    /// Where it was.
    pub place: Place,
}

/// Without the token: a debug line must not hand it on.
impl fmt::Debug for Credential<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credential")
            .field("place", &self.place)
            .finish_non_exhaustive()
    }
}

/// Why no token can be taken from a request, all answered with 401. `Display` is meant for the
/// peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CredentialError {
    /// More than one `Authorization` header.
    SeveralHeaders,
    /// The header is not `Bearer `, in this very spelling, and a token of at least
    /// [`TOKEN_CHARS_MIN`] characters.
    MalformedHeader,
    /// More than one `authorization` parameter.
    SeveralParameters,
    /// The parameter is shorter than [`TOKEN_CHARS_MIN`] characters.
    MalformedParameter,
    /// The cookie is not ASCII text.
    MalformedCookie,
}

impl fmt::Display for CredentialError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::SeveralHeaders => "more than one Authorization header",
            Self::MalformedHeader => "the Authorization header is not \"Bearer \" and a token",
            Self::SeveralParameters => "more than one query parameter \"authorization\"",
            Self::MalformedParameter => "the query parameter \"authorization\" is not a token",
            Self::MalformedCookie => "the cookie is not a token",
        })
    }
}

impl std::error::Error for CredentialError {}

/// Finds the request's token: in the `Authorization` header, else in the query parameter
/// `authorization`, else in the cookie. `query` holds the decoded parameters of the request
/// target. `None`: no token anywhere.
pub fn find<'r>(
    headers: &'r HeaderMap,
    query: &'r [Pair<'_>],
    cookie_name: &str,
) -> Result<Option<Credential<'r>>, CredentialError> {
    let mut fields = headers.get_all(AUTHORIZATION).iter();
    if let Some(field) = fields.next() {
        if fields.next().is_some() {
            return Err(CredentialError::SeveralHeaders);
        }
        let text = field
            .to_str()
            .ok()
            .and_then(|text| text.strip_prefix("Bearer "));
        let token = text.filter(|token| token.len() >= TOKEN_CHARS_MIN);
        let token = token.ok_or(CredentialError::MalformedHeader)?;
        return Ok(Some(Credential {
            token,
            place: Place::Header,
        }));
    }
    let mut parameters = query.iter().filter(|(name, _)| name == "authorization");
    if let Some((_, token)) = parameters.next() {
        if parameters.next().is_some() {
            return Err(CredentialError::SeveralParameters);
        }
        if token.len() < TOKEN_CHARS_MIN {
            return Err(CredentialError::MalformedParameter);
        }
        return Ok(Some(Credential {
            token,
            place: Place::Query,
        }));
    }
    let cookie = cookie(headers, cookie_name)?;
    Ok(cookie.map(|token| Credential {
        token,
        place: Place::Cookie,
    }))
}

/// The first cookie of this name (RFC 6265 section 5.4 has the more specific path first). Quotes
/// around the value are not part of it.
fn cookie<'r>(headers: &'r HeaderMap, wanted: &str) -> Result<Option<&'r str>, CredentialError> {
    for field in headers.get_all(COOKIE) {
        for crumb in field.as_bytes().split(|&byte| byte == b';') {
            let Some(at) = crumb.iter().position(|&byte| byte == b'=') else {
                continue;
            };
            if crumb[..at].trim_ascii() == wanted.as_bytes() {
                let value = std::str::from_utf8(crumb[at + 1..].trim_ascii());
                let value = value.ok().filter(|value| value.is_ascii());
                let value = value.ok_or(CredentialError::MalformedCookie)?;
                let unquoted = value
                    .strip_prefix('"')
                    .and_then(|rest| rest.strip_suffix('"'));
                return Ok(Some(unquoted.unwrap_or(value)));
            }
        }
    }
    Ok(None)
}
