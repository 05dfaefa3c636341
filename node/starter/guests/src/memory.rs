//! What happens when a job's memory runs out: an `error` event, not a trap.
//!
//! An Island limits the memory of a module. A failed allocation would abort,
//! which looks like a defect of the Cargo; but it is the input that asks too
//! much (`[@,@][]` over and over), and the Consumer should read so. Installed
//! for every program of this package; it never limits anything by itself.

use std::alloc::{GlobalAlloc, Layout, System};
use std::fs::File;
use std::io::Write;
use std::mem::ManuallyDrop;
use std::os::fd::FromRawFd;

#[global_allocator]
static ALLOCATOR: OrExplain = OrExplain;

const LINE: &[u8] =
    b"{\"type\":\"error\",\"message\":\"input: needs more memory than a job may use\"}\n";

struct OrExplain;

// SAFETY: every call goes to the system's allocator with the same arguments,
// and its answer is returned as it is; a null answer ends the program instead.
unsafe impl GlobalAlloc for OrExplain {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promises are those that the system asks for.
        given(unsafe { System.alloc(layout) })
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as above.
        given(unsafe { System.alloc_zeroed(layout) })
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: as above; all blocks come from the system's allocator.
        given(unsafe { System.realloc(block, layout, size) })
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(block, layout) }
    }
}

fn given(block: *mut u8) -> *mut u8 {
    if block.is_null() {
        explain();
    }
    block
}

/// Lines are built in memory and written whole, so stdout is between two lines
/// when an allocation fails. This must not allocate: no `stdout()`.
#[cold]
fn explain() -> ! {
    // SAFETY: WASI opens stdout as 1, nobody closes it, and neither does this.
    let mut stdout = ManuallyDrop::new(unsafe { File::from_raw_fd(1) });
    let told = stdout.write_all(LINE);
    std::process::exit(i32::from(told.is_err()))
}
