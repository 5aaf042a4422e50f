//! Rust's memory in a process of PostgreSQL's. Where the C library has none, Rust ends the process, and
//! PostgreSQL with it; so small requests are then served from a reserve of this library's own, and it is noted
//! that they were: whoever serves the client [looks](memory::check) and fails the statement. What may be large is
//! asked for in a way that can fail ([`crate::memory`]) and never comes from here.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::UnsafeCell;
use std::hint::spin_loop;
use std::ptr::null_mut;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::memory;

/// Bytes of the reserve.
const SIZE: usize = 64 * 1024;

/// A piece of the reserve takes a multiple of this, and is aligned to it.
const GRAIN: usize = 64;

const GRAINS: usize = SIZE / GRAIN;

/// The largest piece: enough for an error's texts, and not so much that a few would exhaust it.
const LARGEST: usize = SIZE / 8;

const WORD: usize = u64::BITS as usize;

#[global_allocator]
static ALLOCATOR: Allocator = Allocator;

static RESERVE: Reserve = Reserve {
    memory: Memory(UnsafeCell::new([0; SIZE])),
    taken: UnsafeCell::new([0; GRAINS / WORD]),
    lock: AtomicBool::new(false),
    tell: memory::set_short,
};

/// The C library's, and then the reserve.
struct Allocator;

/// So many bytes, of which each grain is free or part of one piece.
struct Reserve {
    memory: Memory,
    /// A bit for each grain.
    taken: UnsafeCell<[u64; GRAINS / WORD]>,
    /// Held while `taken` is looked at: the worker has a second thread at times.
    lock: AtomicBool,
    /// Is told when it is drawn on, and when it is whole again.
    tell: fn(bool),
}

#[repr(align(64))]
struct Memory(UnsafeCell<[u8; SIZE]>);

const _: () = assert!(align_of::<Memory>() == GRAIN);

// SAFETY: `taken` is touched under the lock alone, and each piece of the memory belongs to who has it.
unsafe impl Sync for Reserve {}

// SAFETY: what comes from the C library goes back there, and what comes from the reserve, whose pieces do not
// overlap and are as large and as aligned as is asked for, goes back to the reserve. Nothing here unwinds.
unsafe impl GlobalAlloc for Allocator {
    #[inline]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: a layout whose size is not 0, as `GlobalAlloc` has it for this function, too.
        let given = unsafe { System.alloc(layout) };
        if given.is_null() { RESERVE.take(layout) } else { given }
    }

    #[inline]
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: a layout whose size is not 0, as `GlobalAlloc` has it for this function, too.
        let given = unsafe { System.alloc_zeroed(layout) };
        if !given.is_null() {
            return given;
        }
        let piece = RESERVE.take(layout);
        if !piece.is_null() {
            // SAFETY: a piece of that size. An earlier owner may have written to it.
            unsafe { piece.write_bytes(0, layout.size()) };
        }
        piece
    }

    #[inline]
    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        if RESERVE.has(at) {
            RESERVE.give_back(at, layout);
        } else {
            // SAFETY: it is not the reserve's, so that it came from there, with this layout.
            unsafe { System.dealloc(at, layout) }
        }
    }

    #[inline]
    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        if !RESERVE.has(at) {
            // SAFETY: it is not the reserve's, so that it came from there, with this layout; the new size is
            // not 0.
            let given = unsafe { System.realloc(at, layout, size) };
            if !given.is_null() {
                return given;
            }
            if size <= layout.size() {
                // Nobody that gives memory back expects that to fail, and the C library does not ask how
                // large a piece was.
                return at;
            }
        }
        // SAFETY: `GlobalAlloc` has it that a new size is not 0 and, rounded up, no larger than an isize holds; and
        // that the piece is there, with this layout.
        unsafe { move_to(at, layout, Layout::from_size_align_unchecked(size, layout.align())) }
    }
}

/// Moves what is at `at` to another place.
///
/// # Safety
///
/// As for [`GlobalAlloc::realloc`].
#[cold]
#[inline(never)]
unsafe fn move_to(at: *mut u8, layout: Layout, wanted: Layout) -> *mut u8 {
    // SAFETY: both places have as many bytes as are copied; the new one is another, as the old one is still
    // taken until then.
    unsafe {
        let given = ALLOCATOR.alloc(wanted);
        if !given.is_null() {
            given.copy_from_nonoverlapping(at, layout.size().min(wanted.size()));
            ALLOCATOR.dealloc(at, layout);
        }
        given
    }
}

impl Reserve {
    /// Returns whether a piece of it is there.
    #[inline]
    fn has(&self, at: *mut u8) -> bool {
        at.addr().wrapping_sub(self.memory.0.get().addr()) < SIZE
    }

    /// A piece; null if there is none.
    #[cold]
    #[inline(never)]
    fn take(&self, layout: Layout) -> *mut u8 {
        if layout.size() > LARGEST || layout.align() > GRAIN {
            return null_mut();
        }
        let count = layout.size().div_ceil(GRAIN).max(1);
        let found = self.locked(|taken| {
            let start = free_run(taken, count)?;
            (start..start + count).for_each(|grain| taken[grain / WORD] |= 1 << (grain % WORD));
            (self.tell)(true);
            Some(start)
        });
        let Some(start) = found else { return null_mut() };
        // SAFETY: within the memory.
        unsafe { self.memory.0.get().cast::<u8>().add(start * GRAIN) }
    }

    /// Takes a piece back, which was taken with this layout.
    #[cold]
    #[inline(never)]
    fn give_back(&self, at: *mut u8, layout: Layout) {
        let start = (at.addr() - self.memory.0.get().addr()) / GRAIN;
        let count = layout.size().div_ceil(GRAIN).max(1);
        self.locked(|taken| {
            (start..start + count).for_each(|grain| taken[grain / WORD] &= !(1 << (grain % WORD)));
            if taken.iter().all(|&word| word == 0) {
                (self.tell)(false);
            }
        });
    }

    fn locked<T>(&self, work: impl FnOnce(&mut [u64; GRAINS / WORD]) -> T) -> T {
        while self.lock.swap(true, Ordering::Acquire) {
            spin_loop();
        }
        // SAFETY: nobody else has the lock, and the reference ends before it is released. `work` does not
        // panic and does not ask for memory.
        let result = work(unsafe { &mut *self.taken.get() });
        self.lock.store(false, Ordering::Release);
        result
    }
}

/// The first of so many grains in a row that are free.
fn free_run(taken: &[u64; GRAINS / WORD], count: usize) -> Option<usize> {
    let mut free = 0;
    for grain in 0..GRAINS {
        let is_taken = taken[grain / WORD] & (1 << (grain % WORD)) != 0;
        free = if is_taken { 0 } else { free + 1 };
        if free == count {
            return Some(grain + 1 - count);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn reserve() -> Box<Reserve> {
        Box::new(Reserve {
            memory: Memory(UnsafeCell::new([0; SIZE])),
            taken: UnsafeCell::new([0; GRAINS / WORD]),
            lock: AtomicBool::new(false),
            tell: |_| {},
        })
    }

    fn layout(size: usize) -> Layout {
        Layout::from_size_align(size, 16).unwrap()
    }

    #[test]
    fn it_is_whole_again_when_all_is_given_back() {
        let reserve = reserve();
        for _ in 0..3 {
            let pieces: Vec<_> =
                std::iter::repeat_with(|| reserve.take(layout(LARGEST))).take(9).collect();
            let (last, others) = pieces.split_last().unwrap();
            assert!(last.is_null() && others.iter().all(|&piece| reserve.has(piece)));
            others.iter().for_each(|&piece| reserve.give_back(piece, layout(LARGEST)));
        }
    }

    #[test]
    fn what_is_large_or_aligned_to_more_is_not_served() {
        let reserve = reserve();
        assert!(reserve.take(layout(LARGEST + 1)).is_null());
        assert!(reserve.take(Layout::from_size_align(1, 2 * GRAIN).unwrap()).is_null());
        assert!(!reserve.has(null_mut()));
    }

    #[test]
    fn two_threads_never_have_the_same_piece() {
        let reserve = reserve();
        let work = |mark: u8| {
            for size in (1..2000).cycle().take(20_000) {
                let piece = reserve.take(layout(size));
                if piece.is_null() {
                    continue;
                }
                // SAFETY: a piece of that size, which is this thread's.
                unsafe {
                    piece.write_bytes(mark, size);
                    assert!((0..size).all(|at| piece.add(at).read() == mark));
                }
                reserve.give_back(piece, layout(size));
            }
        };
        std::thread::scope(|scope| {
            scope.spawn(|| work(1));
            scope.spawn(|| work(2));
        });
        assert!(!reserve.take(layout(LARGEST)).is_null());
    }

    proptest! {
        #[test]
        fn pieces_do_not_overlap(steps in prop::collection::vec((1..LARGEST, any::<prop::sample::Index>()), 1..200)) {
            let reserve = reserve();
            let mut pieces: Vec<(*mut u8, usize)> = Vec::new();
            for (size, which) in steps {
                let piece = reserve.take(layout(size));
                if piece.is_null() {
                    let (given_back, size) = pieces.swap_remove(which.index(pieces.len()));
                    reserve.give_back(given_back, layout(size));
                    continue;
                }
                prop_assert!(reserve.has(piece) && reserve.has(piece.wrapping_add(size - 1)));
                prop_assert_eq!(piece.addr() % GRAIN, 0);
                let overlaps = |&(other, length): &(*mut u8, usize)| {
                    piece.addr() < other.addr() + length && other.addr() < piece.addr() + size
                };
                prop_assert!(!pieces.iter().any(overlaps));
                pieces.push((piece, size));
            }
        }
    }
}
