//! The few calls that need `unsafe`.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};

use rustix::thread::{UnshareFlags, unshare_unsafe};

/// Gives this thread a descriptor table of its own, with a copy of every descriptor open now.
///
/// # Errors
///
/// The kernel refused.
pub fn unshare_descriptors() -> io::Result<()> {
    // SAFETY: after this call, descriptors opened by other threads do not exist here and those
    // opened here not there. The callers pass none between such threads except by SCM_RIGHTS.
    unsafe { unshare_unsafe(UnshareFlags::FILES) }?;
    Ok(())
}

/// Closes every descriptor of this thread's own table from `first` to `last`.
///
/// # Errors
///
/// The kernel refused.
pub fn close_range(first: RawFd, last: RawFd) -> io::Result<()> {
    let (first, last) = (first.cast_unsigned(), last.cast_unsigned());
    // SAFETY: the callers name only descriptors that nobody in this thread owns.
    let result = unsafe { libc::close_range(first, last, 0) };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Sets a socket option whose value is an int.
///
/// # Errors
///
/// The kernel refused.
pub fn set_int(
    socket: impl std::os::fd::AsFd,
    level: i32,
    name: i32,
    value: i32,
) -> io::Result<()> {
    let size = libc::socklen_t::try_from(size_of::<i32>()).expect("four");
    let descriptor = socket.as_fd().as_raw_fd();
    let pointer = (&raw const value).cast();
    // SAFETY: the pointer is to an int on this stack, and its size is given.
    let result = unsafe { libc::setsockopt(descriptor, level, name, pointer, size) };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// A descriptor by number, for as long as the caller keeps it open.
pub fn borrow<'a>(descriptor: RawFd) -> BorrowedFd<'a> {
    // SAFETY: the callers own the descriptor and keep it open while they use the borrow.
    unsafe { BorrowedFd::borrow_raw(descriptor) }
}

/// Where a send of io_uring goes.
#[derive(Clone, Copy, Debug)]
pub enum Target {
    /// A registered file's place.
    Registered(u32),
    /// A descriptor.
    Number(RawFd),
}

/// Queues a send that does not wait; the bytes live for ever.
pub fn queue_send(ring: &mut io_uring::IoUring, target: Target, bytes: &'static [u8]) {
    use io_uring::{opcode::Send, types};
    let length = u32::try_from(bytes.len()).expect("a frame is small");
    let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
    let entry = match target {
        Target::Registered(at) => Send::new(types::Fixed(at), bytes.as_ptr(), length)
            .flags(flags)
            .build(),
        Target::Number(number) => Send::new(types::Fd(number), bytes.as_ptr(), length)
            .flags(flags)
            .build(),
    };
    // SAFETY: the bytes are static; the descriptor is open until the completion was taken, which
    // the caller waits for before it goes on.
    let result = unsafe { ring.submission().push(&entry) };
    result.expect("no more are queued than the ring has room for");
}

/// Bytes of kernel memory in the socket's send queue (`SK_MEMINFO_WMEM_QUEUED`).
///
/// # Errors
///
/// The kernel refused.
pub fn send_queue_memory(socket: impl std::os::fd::AsFd) -> io::Result<u64> {
    /// Place of the send queue in `SO_MEMINFO`, from linux/sock_diag.h.
    const WMEM_QUEUED: usize = 5;
    let mut values = [0_u32; 16];
    let mut size = libc::socklen_t::try_from(size_of_val(&values)).expect("64");
    let descriptor = socket.as_fd().as_raw_fd();
    // SAFETY: the kernel writes at most `size` bytes into the array.
    let result = unsafe {
        libc::getsockopt(
            descriptor,
            libc::SOL_SOCKET,
            libc::SO_MEMINFO,
            values.as_mut_ptr().cast(),
            &raw mut size,
        )
    };
    if result == 0 {
        Ok(values[WMEM_QUEUED].into())
    } else {
        Err(io::Error::last_os_error())
    }
}
