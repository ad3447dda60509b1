//! Numbered places: a number stands for what was put there until it is taken out.

/// A row of places. A place that became free is used again before the row grows.
#[derive(Debug)]
pub(super) struct Slots<T> {
    places: Vec<Option<T>>,
    free: Vec<usize>,
}

impl<T> Default for Slots<T> {
    fn default() -> Self {
        Self {
            places: Vec::new(),
            free: Vec::new(),
        }
    }
}

impl<T> Slots<T> {
    /// Places so far, the free ones among them: all numbers are below.
    pub(super) fn len(&self) -> usize {
        self.places.len()
    }

    /// Puts something into a free place and gives its number.
    pub(super) fn add(&mut self, value: T) -> usize {
        if let Some(id) = self.free.pop() {
            self.places[id] = Some(value);
            return id;
        }
        self.places.push(Some(value));
        self.places.len() - 1
    }

    /// What is there.
    pub(super) fn get(&self, id: usize) -> Option<&T> {
        self.places.get(id)?.as_ref()
    }

    /// What is there.
    pub(super) fn get_mut(&mut self, id: usize) -> Option<&mut T> {
        self.places.get_mut(id)?.as_mut()
    }

    /// Takes out what is there.
    pub(super) fn remove(&mut self, id: usize) -> Option<T> {
        let value = self.places.get_mut(id)?.take();
        if value.is_some() {
            self.free.push(id);
        }
        value
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_free_place_is_used_again() {
        let mut slots = Slots::default();
        assert_eq!((slots.add('a'), slots.add('b')), (0, 1));
        assert_eq!(slots.remove(0), Some('a'));
        assert_eq!((slots.remove(0), slots.remove(7)), (None, None));
        assert_eq!((slots.get(0), slots.get(1)), (None, Some(&'b')));
        assert_eq!((slots.add('c'), slots.add('d')), (0, 2));
        assert_eq!(slots.get_mut(0), Some(&mut 'c'));
        assert_eq!(slots.len(), 3);
    }
}
