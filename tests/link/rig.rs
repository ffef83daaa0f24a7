//! Starts, drives, stops and kills nodes, and puts a wire that can be cut between them.

use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;

/// How long anything may take before the test fails. Far more than it should.
const PATIENCE: Duration = Duration::from_secs(30);

pub struct Process {
    child: Child,
    input: Option<ChildStdin>,
    lines: Receiver<String>,
    pub address: String,
    pub node: u64,
}

/// What a node is started from; `Default` is a plain node 1 on a free port.
#[derive(Clone)]
pub struct Settings<'a> {
    pub node: u64,
    pub incarnation: u64,
    pub listen: String,
    pub cluster: u8,
    pub name: String,
    /// Folder of certificates, and whose to use.
    pub certs: Option<(&'a Path, &'a str)>,
}

impl Settings<'_> {
    pub fn plain(node: u64) -> Self {
        let (listen, name) = ("127.0.0.1:0".to_owned(), format!("n{node}"));
        Self { node, incarnation: 1, listen, cluster: 1, name, certs: None }
    }
}

impl Process {
    pub fn start(settings: &Settings<'_>) -> Self {
        let value = json!({
            "node": settings.node, "incarnation": settings.incarnation, "listen": settings.listen,
            "cluster": settings.cluster, "name": settings.name,
            "certs": settings.certs.map(|(dir, _)| dir), "cert": settings.certs.map(|(_, name)| name),
            "log": std::env::var_os("BOJAGI_LINK_LOG").is_some(),
        });
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["node_process", "--exact", "--nocapture", "--test-threads=1"])
            .env(super::node::SETTINGS, value.to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (send, lines) = channel();
        let output = BufReader::new(child.stdout.take().unwrap());
        std::thread::spawn(move || {
            for line in output.lines().map_while(Result::ok) {
                // The first line of ours follows libtest's "test ... " on the same line.
                let Some((_, line)) = line.split_once('@') else { continue };
                if send.send(line.to_owned()).is_err() {
                    return;
                }
            }
        });
        let input = child.stdin.take();
        let mut process = Self { child, input, lines, address: String::new(), node: settings.node };
        process.address = process.expect("listen ");
        process
    }

    pub fn tell(&mut self, line: &str) {
        writeln!(self.input.as_mut().unwrap(), "{line}").unwrap();
    }

    /// Waits for a line with this beginning, skipping others, and returns what follows.
    pub fn expect(&self, beginning: &str) -> String {
        loop {
            match self.lines.recv_timeout(PATIENCE) {
                Ok(line) if line.starts_with(beginning) => return line[beginning.len()..].to_owned(),
                Ok(_) => {}
                Err(RecvTimeoutError::Timeout) => panic!("node {} did not say {beginning}", self.node),
                Err(RecvTimeoutError::Disconnected) => panic!("node {} ended before {beginning}", self.node),
            }
        }
    }

    pub fn ask(&mut self, command: &str, beginning: &str) -> String {
        self.tell(command);
        self.expect(beginning)
    }

    pub fn json(&mut self, command: &str) -> Value {
        let text = self.ask(command, &format!("{command} "));
        serde_json::from_str(&text).unwrap()
    }

    pub fn peers(&mut self, peers: &[(u64, &str)]) {
        let peers: Vec<String> = peers.iter().map(|(node, address)| format!("{node}={address}")).collect();
        self.tell(&format!("peers {}", peers.join(" ")));
    }

    pub fn signal(&self, signal: libc::c_int) {
        // SAFETY: kill(2) takes plain numbers; the child is ours and not reaped yet, so its id is not another's.
        assert_eq!(unsafe { libc::kill(self.child.id() as libc::pid_t, signal) }, 0);
    }

    /// Stops it, and waits until each of its threads stands.
    pub fn pause(&self) {
        self.signal(libc::SIGSTOP);
        let stands = |task: std::fs::DirEntry| {
            let stat = std::fs::read_to_string(task.path().join("stat")).unwrap();
            stat.rsplit(") ").next().is_some_and(|state| state.starts_with('T'))
        };
        let tasks = format!("/proc/{}/task", self.child.id());
        while !std::fs::read_dir(&tasks).unwrap().map(Result::unwrap).all(stands) {
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Open files and sockets.
    pub fn descriptors(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/fd", self.child.id())).unwrap().count()
    }

    /// Closes its input and waits for its end.
    pub fn stop(mut self) {
        drop(self.input.take());
        self.expect("stopped");
        assert!(self.child.wait().unwrap().success());
    }

    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ended = self.child.kill();
        let _reaped = self.child.wait();
    }
}

/// Two nodes with a link, plain.
pub fn pair() -> (Process, Process) {
    linked(&Settings::plain(1), &Settings::plain(2))
}

pub fn linked(one: &Settings<'_>, two: &Settings<'_>) -> (Process, Process) {
    let (mut one, mut two) = (Process::start(one), Process::start(two));
    let (at_one, at_two) = (one.address.clone(), two.address.clone());
    one.peers(&[(two.node, &at_two)]);
    two.peers(&[(one.node, &at_one)]);
    one.expect(&format!("up {}", two.node));
    two.expect(&format!("up {}", one.node));
    (one, two)
}

/// A port that nobody listens on.
pub fn dead_port() -> String {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string()
}

/// Forwards bytes to an address until it is blocked: then connections stay open and nothing passes, as behind a firewall
/// that drops.
pub struct Cable {
    pub address: String,
    blocked: Arc<AtomicBool>,
}

impl Cable {
    pub fn to(target: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let target: SocketAddr = target.parse().unwrap();
        let blocked = Arc::new(AtomicBool::new(false));
        let cut = Arc::clone(&blocked);
        std::thread::spawn(move || {
            for near in listener.incoming().map_while(Result::ok) {
                let Ok(far) = TcpStream::connect(target) else { continue };
                let pairs = [(near.try_clone().unwrap(), far.try_clone().unwrap()), (far, near)];
                for (from, to) in pairs {
                    let cut = Arc::clone(&cut);
                    std::thread::spawn(move || forward(from, to, &cut));
                }
            }
        });
        Self { address, blocked }
    }

    pub fn block(&self, blocked: bool) {
        self.blocked.store(blocked, Ordering::SeqCst);
    }
}

fn forward(mut from: TcpStream, mut to: TcpStream, cut: &AtomicBool) {
    let mut buffer = [0u8; 16 << 10];
    while let Ok(count @ 1..) = from.read(&mut buffer) {
        // What arrives while it is blocked is lost, and so is the rest of that connection.
        if cut.load(Ordering::SeqCst) {
            std::io::copy(&mut from, &mut std::io::sink()).ok();
            break;
        }
        if to.write_all(&buffer[..count]).is_err() {
            break;
        }
    }
    // The other direction may have closed it.
    to.shutdown(std::net::Shutdown::Both).ok();
}
