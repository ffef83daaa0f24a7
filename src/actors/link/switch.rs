//! A stream with a kill switch, as ractor_cluster gets it.
//!
//! ractor_cluster's writer survives its session and delivers a paused peer's backlog when it wakes. Once the switch is
//! thrown every read and write fails at once, so nothing leaves or comes in any more, and both of its tasks end (ADR-5).

use parking_lot::Mutex;
use ractor_cluster::{BoxRead, BoxWrite, ClusterBidiStream};
use std::io;
use std::os::fd::AsRawFd;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, BufReader, ReadBuf};
use tokio::net::TcpStream;

/// Reads of ractor_cluster are small; they are served from a buffer of this size.
const READ_BUFFER_BYTES: usize = 64 << 10;
/// How long sent data may stay unacknowledged by the peer's kernel. Helps only while data is on its way (ADR-5).
const UNACKNOWLEDGED_MAX: Duration = Duration::from_secs(3);

#[derive(Default)]
struct Thrown {
    dead: AtomicBool,
    reader: Mutex<Option<Waker>>,
    writer: Mutex<Option<Waker>>,
}

/// Ends a stream for good, from any thread.
#[derive(Clone, Default)]
pub(crate) struct KillSwitch(Arc<Thrown>);

impl KillSwitch {
    pub(crate) fn throw(&self) {
        self.0.dead.store(true, Ordering::SeqCst);
        for waker in [&self.0.reader, &self.0.writer] {
            if let Some(waker) = waker.lock().take() {
                waker.wake();
            }
        }
    }

    /// Registers the task before it looks, so that a throw in between wakes it.
    fn check(&self, side: &Mutex<Option<Waker>>, context: &Context<'_>) -> io::Result<()> {
        {
            let mut waker = side.lock();
            if !waker.as_ref().is_some_and(|known| known.will_wake(context.waker())) {
                *waker = Some(context.waker().clone());
            }
        }
        if self.0.dead.load(Ordering::SeqCst) {
            return Err(io::Error::new(io::ErrorKind::ConnectionAborted, "the link was ended"));
        }
        Ok(())
    }
}

struct Guarded<T> {
    io: T,
    switch: KillSwitch,
}

impl<T: AsyncRead + Unpin> AsyncRead for Guarded<T> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if let Err(error) = self.switch.check(&self.switch.0.reader, cx) {
            return Poll::Ready(Err(error));
        }
        Pin::new(&mut self.io).poll_read(cx, buffer)
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Guarded<T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if let Err(error) = self.switch.check(&self.switch.0.writer, cx) {
            return Poll::Ready(Err(error));
        }
        Pin::new(&mut self.io).poll_write(cx, bytes)
    }
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if let Err(error) = self.switch.check(&self.switch.0.writer, cx) {
            return Poll::Ready(Err(error));
        }
        Pin::new(&mut self.io).poll_flush(cx)
    }
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

/// An authenticated byte stream between two nodes: TCP, or TLS over it.
pub(crate) trait Wire: AsyncRead + AsyncWrite + Unpin + Send + 'static {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send + 'static> Wire for T {}

/// A stream that can be ended by its switch, labelled so that its session is told from any other.
pub(crate) struct GuardedStream {
    pub(crate) stream: Box<dyn Wire>,
    pub(crate) switch: KillSwitch,
    pub(crate) label: String,
}

impl ClusterBidiStream for GuardedStream {
    fn split(self: Box<Self>) -> (BoxRead, BoxWrite) {
        let (read, write) = tokio::io::split(self.stream);
        let buffered = BufReader::with_capacity(READ_BUFFER_BYTES, read);
        let read = Guarded { io: buffered, switch: self.switch.clone() };
        (Box::new(read), Box::new(Guarded { io: write, switch: self.switch }))
    }
    fn peer_label(&self) -> Option<String> {
        Some(self.label.clone())
    }
}

/// Sets what every socket between nodes has: no delay of small writes, a bound on unacknowledged data.
///
/// # Errors
/// The kernel refuses an option.
pub(crate) fn tune(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let millis = UNACKNOWLEDGED_MAX.as_millis() as libc::c_uint;
    // SAFETY: the descriptor is open for as long as `stream` is borrowed; the option's value is a live c_uint whose
    // size is given.
    let result = unsafe {
        libc::setsockopt(
            stream.as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_USER_TIMEOUT,
            (&raw const millis).cast(),
            size_of::<libc::c_uint>() as libc::socklen_t,
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    fn guarded(stream: tokio::io::DuplexStream) -> (BoxRead, BoxWrite, KillSwitch) {
        let switch = KillSwitch::default();
        let stream = GuardedStream { stream: Box::new(stream), switch: switch.clone(), label: String::new() };
        let (read, write) = Box::new(stream).split();
        (read, write, switch)
    }

    #[tokio::test]
    async fn bytes_pass_until_the_switch_is_thrown() {
        let (near, mut far) = tokio::io::duplex(64);
        let (mut read, mut write, switch) = guarded(near);
        write.write_all(b"there").await.unwrap();
        let mut heard = [0u8; 5];
        far.read_exact(&mut heard).await.unwrap();
        assert_eq!(&heard, b"there");
        far.write_all(b"stale").await.unwrap();
        switch.throw();
        assert_eq!(read.read_u8().await.unwrap_err().kind(), io::ErrorKind::ConnectionAborted);
        assert_eq!(write.write_all(b"x").await.unwrap_err().kind(), io::ErrorKind::ConnectionAborted);
    }

    #[tokio::test]
    async fn a_throw_wakes_a_blocked_read_and_a_blocked_write() {
        let (near, _far) = tokio::io::duplex(4);
        let (mut read, mut write, switch) = guarded(near);
        let reading = tokio::spawn(async move { read.read_u8().await.map(drop) });
        let writing = tokio::spawn(async move { write.write_all(&[0; 64]).await });
        tokio::task::yield_now().await;
        switch.throw();
        assert!(reading.await.unwrap().is_err());
        assert!(writing.await.unwrap().is_err());
    }
}
