//! The protocol of the reference simulator in front of a `swtpm`. Here libtss2 opens one connection for each
//! context, as for a device node; to a `swtpm` it opens one for each command.

use std::io::{self, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::os::linux::net::TcpStreamExt as _;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicU32, AtomicUsize};
use std::thread;

use azure_dps_tests::swtpm::Swtpm;

/// A simulator whose connections can be counted and cut.
#[derive(Debug)]
pub(crate) struct Simulator {
    port: u16,
    line: Arc<Line>,
}

#[derive(Debug)]
struct Line {
    swtpm: u16,
    opened: AtomicUsize,
    cut_at: AtomicU32,
}

impl Simulator {
    pub(crate) fn before(tpm: &Swtpm) -> Self {
        let (commands, platform) = neighbours();
        let port = commands.local_addr().unwrap().port();
        let line = Arc::new(Line {
            swtpm: tpm.port(),
            opened: AtomicUsize::default(),
            cut_at: AtomicU32::default(),
        });
        let shared = line.clone();
        thread::spawn(move || {
            for stream in commands.incoming().map(Result::unwrap) {
                shared.opened.fetch_add(1, Relaxed);
                let line = shared.clone();
                thread::spawn(move || line.forward(stream));
            }
        });
        thread::spawn(move || {
            for stream in platform.incoming().map(Result::unwrap) {
                thread::spawn(move || agree(stream));
            }
        });
        Self { port, line }
    }

    /// The address as libtss2 writes it.
    pub(crate) fn tcti(&self) -> String {
        format!("mssim:host=127.0.0.1,port={}", self.port)
    }

    /// How many connections there were.
    pub(crate) fn opened(&self) -> usize {
        self.line.opened.load(Relaxed)
    }

    /// Breaks the connection that sends the next command with this code. The TPM does not get the command.
    pub(crate) fn cut_at(&self, code: u32) {
        self.line.cut_at.store(code, Relaxed);
    }
}

impl Line {
    /// Passes commands on, until the connection ends.
    fn forward(&self, mut stream: TcpStream) -> io::Result<()> {
        loop {
            // The code for a command, a locality, and the length of the command.
            let mut head = [0; 9];
            stream.read_exact(&mut head)?;
            assert_eq!(head[..5], [0, 0, 0, 8, 0]);
            // libtss2 sends the rest when this has been acknowledged, which the kernel would put off for 40 ms.
            stream.set_quickack(true)?;
            let mut command = vec![0; number(&head[5..]) as usize];
            stream.read_exact(&mut command)?;
            if self.cut_at.compare_exchange(number(&command[6..10]), 0, Relaxed, Relaxed).is_ok() {
                return Ok(());
            }

            let mut tpm = TcpStream::connect(("127.0.0.1", self.swtpm))?;
            tpm.write_all(&command)?;
            let mut answer = vec![0; 6];
            tpm.read_exact(&mut answer)?;
            answer.resize(number(&answer[2..6]) as usize, 0);
            tpm.read_exact(&mut answer[6..])?;

            let length = (answer.len() as u32).to_be_bytes();
            stream.write_all(&[&length[..], &answer, &[0; 4]].concat())?;
        }
    }
}

/// Says yes to whatever is asked of the platform: it is on.
fn agree(mut stream: TcpStream) -> io::Result<()> {
    loop {
        stream.read_exact(&mut [0; 4])?;
        stream.write_all(&[0; 4])?;
    }
}

fn number(bytes: &[u8]) -> u32 {
    u32::from_be_bytes(bytes.try_into().unwrap())
}

/// Two neighbouring ports: libtss2 looks for the platform at the second one.
fn neighbours() -> (TcpListener, TcpListener) {
    loop {
        let first = TcpListener::bind("127.0.0.1:0").unwrap();
        let next = first.local_addr().unwrap().port().saturating_add(1);
        if let Ok(second) = TcpListener::bind(("127.0.0.1", next)) {
            return (first, second);
        }
    }
}
