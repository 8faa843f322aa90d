//! The control socket: every connection gets the agent's status as JSON.

use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::Mode;
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with};

/// The agent's end of the socket. Dropping it removes the socket's file.
#[derive(Debug)]
pub struct Control {
    listener: UnixListener,
    path: PathBuf,
}

impl Control {
    /// Listens at `path` with mode 0660, and replaces a socket that a crash left behind.
    ///
    /// # Errors
    /// When a running agent answers there, or the socket cannot be created.
    pub fn listen(path: &Path) -> io::Result<Self> {
        match probe(path) {
            // EAGAIN: its queue of connections is full, so a process listens.
            Ok(()) | Err(Errno::AGAIN) => {
                let text = "another agent answers at this control socket";
                return Err(io::Error::new(ErrorKind::AddrInUse, text));
            }
            // A file that is not a socket refuses connections too, and must not be removed.
            Err(Errno::CONNREFUSED) if !is_socket(path) => {
                let text =
                    "a file that is no socket is there; give the control socket another path";
                return Err(io::Error::new(ErrorKind::AlreadyExists, text));
            }
            Err(Errno::CONNREFUSED) => std::fs::remove_file(path)?,
            Err(_) => {}
        }
        // The umask applies from the socket's creation on: no other user can connect in between.
        let before = rustix::process::umask(Mode::from_raw_mode(0o117));
        let listener = UnixListener::bind(path);
        rustix::process::umask(before);
        let listener = listener?;
        listener.set_nonblocking(true)?;
        Ok(Control { listener, path: path.to_owned() })
    }

    /// Answers all waiting connections with `status`.
    pub fn answer(&self, status: &serde_json::Value) {
        let text = status.to_string();
        for _ in 0..ANSWERS_MAX {
            let Ok((mut stream, _)) = self.listener.accept() else { return };
            // A status fits the socket's buffer; a client that does not read misses the rest.
            let _ = stream.set_nonblocking(true);
            let _ = stream.write_all(text.as_bytes());
        }
    }
}

impl AsFd for Control {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.listener.as_fd()
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

/// Requests the status of the agent at `path`.
///
/// # Errors
/// When no agent answers there.
pub fn ask(path: &Path) -> io::Result<serde_json::Value> {
    let mut stream = UnixStream::connect(path)?;
    stream.set_read_timeout(Some(ANSWER_TIMEOUT))?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    serde_json::from_str(&text).map_err(io::Error::other)
}

/// Whether a process listens at `path`. Does not wait for an agent that hangs.
fn probe(path: &Path) -> Result<(), Errno> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    connect(&socket, &SocketAddrUnix::new(path)?)
}

fn is_socket(path: &Path) -> bool {
    std::fs::symlink_metadata(path).is_ok_and(|data| data.file_type().is_socket())
}

const ANSWERS_MAX: usize = 16;
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn one_agent_answers_and_cleans_up() {
        let path = std::env::temp_dir().join(format!("anyrelay-ctl-{}", std::process::id()));
        let control = Control::listen(&path).unwrap();
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o660);
        assert_eq!(Control::listen(&path).unwrap_err().kind(), ErrorKind::AddrInUse);
        let asked = std::thread::spawn({
            let path = path.clone();
            move || ask(&path).unwrap()
        });
        let status = serde_json::json!({ "state": "ready" });
        while !asked.is_finished() {
            control.answer(&status);
            std::thread::sleep(Duration::from_millis(5));
        }
        assert_eq!(asked.join().unwrap(), status);
        drop(control);
        assert!(!path.exists());
        // A crash leaves the socket's file, without a listener.
        drop(UnixListener::bind(&path).unwrap());
        drop(Control::listen(&path).unwrap());
        assert_eq!(ask(&path).unwrap_err().kind(), ErrorKind::NotFound);
    }

    #[test]
    fn a_regular_file_is_not_replaced() {
        let path = std::env::temp_dir().join(format!("anyrelay-ctl-file-{}", std::process::id()));
        std::fs::write(&path, "a key").unwrap();
        assert_eq!(Control::listen(&path).unwrap_err().kind(), ErrorKind::AlreadyExists);
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "a key");
        std::fs::remove_file(&path).unwrap();
    }

    #[test]
    fn listening_does_not_wait_for_an_agent_that_hangs() {
        let path = std::env::temp_dir().join(format!("anyrelay-ctl-full-{}", std::process::id()));
        let listener = UnixListener::bind(&path).unwrap();
        // Without accept, connections queue up until a blocking one would wait for ever.
        let mut queued = Vec::new();
        while probe(&path) == Ok(()) {
            let socket =
                socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::NONBLOCK, None);
            let socket = socket.unwrap();
            let _ = connect(&socket, &SocketAddrUnix::new(&path).unwrap());
            queued.push(socket);
            assert!(queued.len() < 100_000, "the queue has no end");
        }
        assert_eq!(Control::listen(&path).unwrap_err().kind(), ErrorKind::AddrInUse);
        drop(listener);
        std::fs::remove_file(&path).unwrap();
    }
}
