//! Socket options that the standard library and `socket2` do not have.

use std::io;
use std::mem::size_of_val;
use std::os::fd::{AsFd, AsRawFd};

/// Asks for a receive buffer above the system's limit, which takes CAP_NET_ADMIN.
pub(crate) fn force_receive_buffer(socket: &impl AsFd, bytes: usize) -> io::Result<()> {
    set(socket, libc::SO_RCVBUFFORCE, &libc::c_int::try_from(bytes).unwrap_or(libc::c_int::MAX))
}

/// As [`force_receive_buffer`], for sending.
pub(crate) fn force_send_buffer(socket: &impl AsFd, bytes: usize) -> io::Result<()> {
    set(socket, libc::SO_SNDBUFFORCE, &libc::c_int::try_from(bytes).unwrap_or(libc::c_int::MAX))
}

/// Gives the socket's `SO_REUSEPORT` group the program that chooses a socket for each packet: it returns the
/// socket's place in the group, in the order of binding. It sees a packet from behind its UDP header.
pub(crate) fn steer(socket: &impl AsFd, program: &mut [libc::sock_filter]) -> io::Result<()> {
    let instructions = libc::c_ushort::try_from(program.len()).expect("a short program");
    let program = libc::sock_fprog { len: instructions, filter: program.as_mut_ptr() };
    set(socket, libc::SO_ATTACH_REUSEPORT_CBPF, &program)
}

fn set<T>(socket: &impl AsFd, option: libc::c_int, value: &T) -> io::Result<()> {
    let bytes = libc::socklen_t::try_from(size_of_val(value)).expect("a small option");
    // SAFETY: the descriptor is borrowed and so open; `value` is a live `T` of the length told. For `sock_fprog`
    // the kernel also reads the program it points to, which `steer` borrows for the length of the call.
    let status = unsafe {
        libc::setsockopt(
            socket.as_fd().as_raw_fd(),
            libc::SOL_SOCKET,
            option,
            std::ptr::from_ref(value).cast::<libc::c_void>(),
            bytes,
        )
    };
    if status == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
