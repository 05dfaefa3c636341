//! Clients that send nothing, little by little, or never read, on real sockets.

use super::*;
use crate::environment::TokioExecutor;
use axum::routing::get;
use futures::stream;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpSocket,
    sync::mpsc,
    time::{Instant, sleep, timeout},
};

const DEADLINE: Duration = Duration::from_secs(30);
const SHORT: Duration = Duration::from_millis(150);
const WIDE: Limits =
    Limits { connections: 100, share: 100, request: DEADLINE, unread: DEADLINE, grace: DEADLINE };
/// More than the system's buffers hold.
const LARGE_BYTES: usize = 64 << 20;

/// Says when it is dropped.
struct Told(mpsc::Sender<()>);

impl Drop for Told {
    fn drop(&mut self) {
        let _heard = self.0.try_send(());
    }
}

struct Server {
    address: SocketAddr,
    tasks: Tasks,
    /// Told when a stream of `/ticks` or `/flood` is over at the server.
    over: mpsc::Receiver<()>,
}

impl Server {
    fn start(limits: Limits) -> Self {
        let listener = listen(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
        let address = listener.local_addr().unwrap();
        let executor = TokioExecutor(tokio::runtime::Handle::current());
        let tasks = Tasks::new(Arc::new(executor));
        let (sender, over) = mpsc::channel(1);
        let endless = move |bytes: usize, pause: Duration| {
            let told = Told(sender.clone());
            let chunk = Bytes::from(vec![b'x'; bytes]);
            async move {
                Body::from_stream(stream::unfold(told, move |told| {
                    let chunk = chunk.clone();
                    async move {
                        sleep(pause).await;
                        Some((Ok::<_, std::io::Error>(chunk), told))
                    }
                }))
            }
        };
        let flood = endless.clone();
        let router = Router::new()
            .route("/", get(async || "ok"))
            .route("/large", get(async || vec![b'x'; LARGE_BYTES]))
            .route("/ticks", get(move || endless(1, SHORT / 10)))
            .route("/flood", get(move || flood(64 << 10, Duration::ZERO)));
        tasks.spawn(accept(listener, router, tasks.clone(), limits));
        Self { address, tasks, over }
    }

    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    async fn ask(&self, path: &str) -> TcpStream {
        let mut stream = self.connect().await;
        let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        stream
    }

    /// Whether `/` is answered on a new connection.
    async fn answers(&self) -> bool {
        begins(&mut self.ask("/").await).await
    }
}

/// Whether an answer begins to come.
async fn begins(stream: &mut TcpStream) -> bool {
    let mut start = [0; 12];
    let read = timeout(DEADLINE, stream.read_exact(&mut start)).await;
    read.expect("an answer or an end").is_ok() && &start == b"HTTP/1.1 200"
}

/// Whether more comes than what has come by now.
async fn goes_on(stream: &mut TcpStream) -> bool {
    let mut buffer = [0; 1024];
    while stream.try_read(&mut buffer).is_ok_and(|read| read > 0) {}
    let read = timeout(DEADLINE, stream.read(&mut buffer)).await;
    read.expect("more or an end").is_ok_and(|read| read > 0)
}

/// Reads a large answer, of which `read` bytes have come already.
async fn comes_whole(stream: &mut TcpStream, mut read: usize) {
    let mut buffer = vec![0; 1 << 20];
    while read < LARGE_BYTES {
        let more = timeout(DEADLINE, stream.read(&mut buffer)).await.expect("more");
        let more = more.expect("cut off");
        assert!(more > 0, "cut off after {read} bytes");
        read += more;
    }
}

/// Waits until the server has closed the connection.
async fn ends(stream: &mut TcpStream) {
    let mut rest = Vec::new();
    // An end, or a reset: both are one.
    let _end = timeout(DEADLINE, stream.read_to_end(&mut rest)).await.expect("closed");
}

#[tokio::test]
async fn who_sends_nothing_or_little_by_little_is_closed() {
    let server = Server::start(Limits { request: SHORT, ..WIDE });
    let mut silent = server.connect().await;
    let mut idle = server.ask("/").await;
    assert!(begins(&mut idle).await);
    ends(&mut silent).await;
    ends(&mut idle).await;

    let (mut reader, mut writer) = server.connect().await.into_split();
    let started = Instant::now();
    let drip = async {
        for byte in b"GET / HTTP/1.1\r\nx: ".iter().chain(std::iter::repeat(&b'x')) {
            if writer.write_all(&[*byte]).await.is_err() || started.elapsed() > DEADLINE {
                return;
            }
            sleep(SHORT / 10).await;
        }
    };
    let mut rest = Vec::new();
    tokio::select! {
        () = drip => {}
        _end = reader.read_to_end(&mut rest) => {}
    }
    assert!(started.elapsed() < DEADLINE, "a client that drips stays");
    assert!(server.answers().await);
    server.tasks.stop().await;
}

#[tokio::test]
async fn who_does_not_read_is_closed_and_who_reads_is_not() {
    let mut server = Server::start(Limits { request: SHORT, unread: SHORT, ..WIDE });
    let mut reader = server.ask("/ticks").await;
    assert!(begins(&mut reader).await);
    let started = Instant::now();
    let mut buffer = [0; 1024];
    while started.elapsed() < 5 * SHORT {
        let read = timeout(DEADLINE, reader.read(&mut buffer)).await.expect("a tick");
        assert!(read.unwrap() > 0, "cut off while its client reads");
    }
    assert!(server.over.try_recv().is_err());
    let _deaf = server.ask("/flood").await;
    timeout(DEADLINE, server.over.recv()).await.expect("given up");
    assert!(goes_on(&mut reader).await, "cut off with the other");
    server.tasks.stop().await;
}

#[tokio::test]
async fn silent_and_deaf_clients_keep_nobody_out() {
    let mut server = Server::start(Limits { connections: 6, share: 6, grace: SHORT, ..WIDE });
    let mut live = server.ask("/ticks").await;
    assert!(begins(&mut live).await);
    let mut silent = Vec::new();
    for _ in 0..20 {
        silent.push(server.connect().await);
        assert!(server.answers().await);
    }
    // The others' streams stay, and those that nobody reads go when their places are wanted.
    let mut deaf = Vec::new();
    for _ in 0..5 {
        let mut stream = server.ask("/flood").await;
        assert!(begins(&mut stream).await);
        deaf.push(stream);
    }
    // How much fits into the system's buffers is unknown: they are not unread at once.
    let again = async { while !server.answers().await {} };
    timeout(DEADLINE, again).await.expect("a place");
    timeout(DEADLINE, server.over.recv()).await.expect("a place was wanted");
    assert!(goes_on(&mut live).await, "cut off while its client reads");
    server.tasks.stop().await;
}

#[tokio::test]
async fn a_client_that_has_its_share_in_answers_gets_no_more() {
    let server = Server::start(Limits { connections: 6, share: 3, ..WIDE });
    let mut streams = Vec::new();
    for _ in 0..3 {
        let mut stream = server.ask("/ticks").await;
        assert!(begins(&mut stream).await);
        streams.push(stream);
    }
    assert!(!begins(&mut server.ask("/").await).await, "a fourth");
    server.tasks.stop().await;
}

/// A full buffer is writable again only after much of it was read.
#[tokio::test]
async fn who_reads_slowly_and_steadily_is_not_closed() {
    const PIECE_BYTES: usize = 16 << 10;
    const BUFFER_BYTES: u32 = 256 << 10;
    let server = Server::start(Limits { unread: 4 * SHORT, ..WIDE });
    // Left alone, the system lets a client's buffer grow to megabytes, and then tells the server of
    // new room only when a sixteenth of it was read: how long that takes is not the server's doing.
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(BUFFER_BYTES).unwrap();
    let mut reader = socket.connect(server.address).await.unwrap();
    reader.write_all(b"GET /large HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    let mut buffer = [0; PIECE_BYTES];
    let (started, mut read) = (Instant::now(), 0);
    // 0.8 MB a second: a third of the server's buffer lasts for a good part of what may be.
    let mut pace = tokio::time::interval(Duration::from_millis(20));
    while started.elapsed() < 30 * SHORT {
        pace.tick().await;
        let more = timeout(DEADLINE, reader.read(&mut buffer)).await.expect("more");
        read += more.expect("cut off");
    }
    // What the system has kept may hide an end for a while.
    comes_whole(&mut reader, read).await;
    server.tasks.stop().await;
}

#[tokio::test]
async fn who_reads_a_large_answer_keeps_its_place() {
    let server = Server::start(Limits { connections: 1, share: 1, ..WIDE });
    let mut reader = server.ask("/large").await;
    assert!(begins(&mut reader).await);
    let mut read = 0;
    let mut buffer = vec![0; 1 << 20];
    for _ in 0..20 {
        assert!(!server.answers().await, "another got the place");
        read += reader.read(&mut buffer).await.unwrap();
    }
    comes_whole(&mut reader, read).await;
    // It waits for a request then. That is known a moment after the last byte has come.
    let again = async { while !server.answers().await {} };
    timeout(DEADLINE, again).await.expect("a place");
    server.tasks.stop().await;
}
