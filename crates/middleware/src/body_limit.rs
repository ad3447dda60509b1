//! At most so many bytes of a request's body: refused from the head where it tells its length,
//! else when the bytes come.

use http::HeaderMap;
use http::header::CONTENT_LENGTH;

/// The limit and what has come of it.
#[derive(Clone, Copy, Debug)]
pub struct BodyLimit {
    left: u64,
}

/// The body is larger than its limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooLarge;

impl std::fmt::Display for TooLarge {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the body is larger than allowed")
    }
}

impl std::error::Error for TooLarge {}

impl BodyLimit {
    /// A body of at most `bytes_max` bytes.
    #[must_use]
    pub const fn new(bytes_max: u64) -> Self {
        Self { left: bytes_max }
    }

    /// Looks at the length that the head tells, if it does.
    ///
    /// # Errors
    ///
    /// [`TooLarge`], before a byte of the body was read.
    pub fn check_head(&self, headers: &HeaderMap) -> Result<(), TooLarge> {
        let told = headers
            .get(CONTENT_LENGTH)
            .and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
        self.check_length(told.unwrap_or(0))
    }

    /// Looks at a length that is known already.
    ///
    /// # Errors
    ///
    /// [`TooLarge`], before a byte of the body was read.
    pub const fn check_length(&self, length: u64) -> Result<(), TooLarge> {
        if length > self.left {
            return Err(TooLarge);
        }
        Ok(())
    }

    /// Counts bytes that came.
    ///
    /// # Errors
    ///
    /// [`TooLarge`]: with these it is over the limit, and so with every byte that follows.
    pub fn take(&mut self, bytes: usize) -> Result<(), TooLarge> {
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
        let left = self.left.checked_sub(bytes);
        self.left = left.unwrap_or(0);
        left.map(drop).ok_or(TooLarge)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    #[test]
    fn a_told_length_is_refused_at_once() {
        let limit = BodyLimit::new(10);
        let head =
            |length| HeaderMap::from_iter([(CONTENT_LENGTH, HeaderValue::from_static(length))]);
        assert_eq!(limit.check_head(&head("10")), Ok(()));
        assert_eq!(limit.check_head(&head("11")), Err(TooLarge));
        assert_eq!(limit.check_head(&HeaderMap::new()), Ok(()));
    }

    #[test]
    fn bytes_are_counted_as_they_come() {
        let mut limit = BodyLimit::new(10);
        assert_eq!(limit.take(4), Ok(()));
        assert_eq!(limit.take(6), Ok(()));
        assert_eq!(limit.take(0), Ok(()));
        assert_eq!(limit.take(1), Err(TooLarge));
        assert_eq!(limit.take(usize::MAX), Err(TooLarge));
    }

    #[test]
    fn once_over_the_limit_nothing_more_fits() {
        let mut limit = BodyLimit::new(10);
        assert_eq!(limit.take(11), Err(TooLarge));
        assert_eq!(limit.take(1), Err(TooLarge));
    }
}
