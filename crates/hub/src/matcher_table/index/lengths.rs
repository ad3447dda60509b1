//! Which lengths the keys below a node have.

/// Lengths in use, ascending, each with the number of its users.
#[derive(Debug, Default)]
pub(super) struct Lengths(Vec<(u16, u32)>);

impl Lengths {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn add(&mut self, length: u16) {
        match self.0.binary_search_by_key(&length, |&(length, _)| length) {
            Ok(at) => self.0[at].1 += 1,
            Err(at) => self.0.insert(at, (length, 1)),
        }
    }

    pub(super) fn remove(&mut self, length: u16) {
        if let Ok(at) = self.0.binary_search_by_key(&length, |&(length, _)| length) {
            self.0[at].1 -= 1;
            if self.0[at].1 == 0 {
                self.0.remove(at);
            }
        }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = usize> {
        self.0.iter().map(|&(length, _)| usize::from(length))
    }
}
