//! Memory that there may not be. Whatever grows with a row, a message or a transaction asks for its memory
//! here, and where there is none unwinds with [`OutOfMemory`]: a backend makes an ERROR of it, the worker
//! holds the event or begins a new life. What asks elsewhere is small: the allocator (`pg/allocator.rs`) keeps a
//! reserve for that, since Rust ends the process where it has no memory. Pure.

use std::collections::{HashMap, HashSet, VecDeque};
use std::hash::{BuildHasher, Hash};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, Ordering};

/// There is no memory. What a panic carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OutOfMemory {
    /// So many bytes were asked for; 0: few.
    pub bytes: usize,
}

/// Does `work`; bugs unwind on.
///
/// # Errors
///
/// If there was no memory for it.
pub fn attempt<T>(work: impl FnOnce() -> T) -> Result<T, OutOfMemory> {
    catch_unwind(AssertUnwindSafe(work)).map_err(|payload| match payload.downcast() {
        Ok(problem) => *problem,
        Err(bug) => resume_unwind(bug),
    })
}

/// Whether the allocator's reserve is not whole.
static IS_SHORT: AtomicBool = AtomicBool::new(false);

/// Says whether the allocator's reserve was drawn on and is not whole again.
pub fn set_short(is_short: bool) {
    IS_SHORT.store(is_short, Ordering::Relaxed);
}

/// Whether something lives off the allocator's reserve.
#[inline]
pub fn is_short() -> bool {
    IS_SHORT.load(Ordering::Relaxed)
}

/// Unwinds if something lives off the allocator's reserve, which is not to be kept, nor to be exhausted by much
/// that is small.
#[inline]
pub fn check() {
    if is_short() {
        refuse(0);
    }
}

/// Unwinds for want of so many bytes.
#[cold]
#[inline(never)]
pub fn refuse(bytes: usize) -> ! {
    // Without the hook: it is no bug, and the hook asks for memory.
    resume_unwind(Box::new(OutOfMemory { bytes }))
}

/// Makes room for so many more.
#[inline]
pub fn reserve<T>(list: &mut Vec<T>, more: usize) {
    if list.capacity() - list.len() < more {
        grow(list, more);
    }
}

#[cold]
#[inline(never)]
fn grow<T>(list: &mut Vec<T>, more: usize) {
    check();
    if list.try_reserve(more).is_err() {
        refuse(list.len().saturating_add(more).saturating_mul(size_of::<T>()));
    }
}

/// Adds one at the end.
#[inline]
pub fn push<T>(list: &mut Vec<T>, item: T) {
    reserve(list, 1);
    list.push(item);
}

/// Adds copies at the end.
#[inline]
pub fn append<T: Copy>(list: &mut Vec<T>, items: &[T]) {
    reserve(list, items.len());
    list.extend_from_slice(items);
}

/// An empty list with room for so many.
pub fn with_room<T>(count: usize) -> Vec<T> {
    check();
    let mut list = Vec::new();
    if list.try_reserve_exact(count).is_err() {
        refuse(count.saturating_mul(size_of::<T>()));
    }
    list
}

/// A copy.
pub fn copy<T: Copy>(items: &[T]) -> Vec<T> {
    let mut list = with_room(items.len());
    list.extend_from_slice(items);
    list
}

/// A copy, if there is memory for it.
pub fn try_copy<T: Copy>(items: &[T]) -> Option<Vec<T>> {
    let mut list = Vec::new();
    list.try_reserve_exact(items.len()).ok()?;
    list.extend_from_slice(items);
    Some(list)
}

/// Cuts a list or fills it up, to so many.
pub fn resize<T: Clone>(list: &mut Vec<T>, count: usize, filling: T) {
    reserve(list, count.saturating_sub(list.len()));
    list.resize(count, filling);
}

/// What the iterator gives, which says beforehand how many that are.
pub fn collect<T>(items: impl ExactSizeIterator<Item = T>) -> Vec<T> {
    let mut list = with_room(items.len());
    list.extend(items);
    list
}

/// A copy of a text.
pub fn text(text: &str) -> String {
    let mut copy = String::new();
    append_text(&mut copy, text);
    copy
}

/// Copies of texts.
pub fn texts(texts: &[String]) -> Vec<String> {
    let mut copies = with_room(texts.len());
    texts.iter().for_each(|one| copies.push(text(one)));
    copies
}

/// Adds to a text.
pub fn append_text(text: &mut String, more: &str) {
    if text.capacity() - text.len() < more.len() {
        check();
    }
    if text.try_reserve(more.len()).is_err() {
        refuse(text.len().saturating_add(more.len()));
    }
    text.push_str(more);
}

/// Makes room in a queue for one more.
pub fn reserve_place<T>(queue: &mut VecDeque<T>) {
    check();
    if queue.try_reserve(1).is_err() {
        refuse(queue.len().saturating_mul(size_of::<T>()));
    }
}

/// Makes room in a set for one more.
pub fn reserve_member<T: Eq + Hash>(set: &mut HashSet<T, impl BuildHasher>) {
    reserve_members(set, 1);
}

/// Makes room in a set for so many more.
pub fn reserve_members<T: Eq + Hash>(set: &mut HashSet<T, impl BuildHasher>, more: usize) {
    check();
    if set.try_reserve(more).is_err() {
        refuse(set.len().saturating_add(more).saturating_mul(size_of::<T>()));
    }
}

/// Makes room in a map for one more.
pub fn reserve_entry<K: Eq + Hash, V>(map: &mut HashMap<K, V, impl BuildHasher>) {
    reserve_entries(map, 1);
}

/// Makes room in a map for so many more.
pub fn reserve_entries<K: Eq + Hash, V>(map: &mut HashMap<K, V, impl BuildHasher>, more: usize) {
    check();
    if map.try_reserve(more).is_err() {
        refuse(map.len().saturating_add(more).saturating_mul(size_of::<(K, V)>()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOO_MUCH: usize = usize::MAX;

    #[test]
    fn what_there_is_no_memory_for_unwinds_and_changes_nothing() {
        let mut list = vec![7u64];
        let refused = Err(OutOfMemory { bytes: TOO_MUCH });
        assert_eq!(attempt(|| reserve(&mut list, TOO_MUCH)), refused);
        assert_eq!(list, [7]);
        assert_eq!(attempt(|| with_room::<u8>(TOO_MUCH)), refused.map(|()| Vec::new()));
        assert_eq!(attempt(|| 7), Ok(7));
    }

    #[test]
    fn what_there_is_memory_for_is_as_it_would_be_otherwise() {
        let mut list = copy(&[1, 2]);
        append(&mut list, &[3]);
        push(&mut list, 4);
        resize(&mut list, 6, 0);
        assert_eq!(list, [1, 2, 3, 4, 0, 0]);
        resize(&mut list, 1, 0);
        assert_eq!(list, [1]);
        assert_eq!(collect([5, 6].into_iter()), [5, 6]);
        let mut words = text("a");
        append_text(&mut words, "b");
        assert_eq!(words, "ab");
    }
}
