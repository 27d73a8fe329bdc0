//! The limits of a machine, each a server that does less than an engine must: `echo` returns the bytes, `ack` finds the
//! frame and answers it, `durable` also writes each message to a file whose blocks are already there and answers all that
//! waited after one fdatasync. None checks, routes or keeps anything; a share of one of them is what an engine is measured by.

use super::wire::{control_id, put_ack, take_frames};
use std::fs::File;
use std::io::{self, Seek, SeekFrom, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;

/// Bytes of `durable`'s file; it begins again at the front when it is full.
const FILE_BYTES: u64 = 512 << 20;
const ECHO_BYTES: usize = 64 << 10;
/// Two messages: what one connection has in a group at most, since it reads on only when they are answered.
const READ_BYTES: usize = 8 << 10;

/// Which limit.
#[derive(Debug, Clone)]
pub enum Reference {
    /// The sockets.
    Echo,
    /// Sockets and framing.
    Ack,
    /// Sockets, framing and the disk, which holds this file.
    Durable(PathBuf),
}

impl Reference {
    /// Serves on `address` until the process is ended, on one thread and, for `durable`, one that writes. Says the address on
    /// standard output once it listens.
    pub async fn serve(self, address: SocketAddr) -> io::Result<()> {
        let writer = match &self {
            Reference::Durable(path) => Some(writer(path)?),
            _ => None,
        };
        let listener = TcpListener::bind(address).await?;
        println!("{}", listener.local_addr()?);
        loop {
            let (stream, _) = listener.accept().await?;
            stream.set_nodelay(true)?;
            let (echo, writer) = (matches!(self, Reference::Echo), writer.clone());
            tokio::spawn(async move { if echo { echoes(stream).await } else { answers(stream, writer).await } });
        }
    }
}

async fn echoes(mut stream: TcpStream) -> io::Result<()> {
    let mut bytes = vec![0; ECHO_BYTES];
    loop {
        match stream.read(&mut bytes).await? {
            0 => return Ok(()),
            read => stream.write_all(&bytes[..read]).await?,
        }
    }
}

async fn answers(mut stream: TcpStream, writer: Option<mpsc::Sender<Job>>) -> io::Result<()> {
    let (mut buffer, mut scanned, mut out) = (Vec::with_capacity(READ_BYTES), 0, Vec::new());
    let mut stored = Vec::new();
    while stream.read_buf(&mut buffer).await? > 0 {
        out.clear();
        take_frames(&mut buffer, &mut scanned, |frame| {
            if let Some(writer) = &writer {
                let (tell, told) = oneshot::channel();
                if writer.send(Job { frame: frame.to_vec(), tell }).is_ok() {
                    stored.push(told);
                }
            }
            put_ack(&mut out, b"CA", control_id(frame).unwrap_or_default());
        });
        for told in stored.drain(..) {
            // The disk failed: nothing is answered.
            if told.await.is_err() {
                return Ok(());
            }
        }
        stream.write_all(&out).await?;
    }
    Ok(())
}

struct Job {
    frame: Vec<u8>,
    tell: oneshot::Sender<()>,
}

fn writer(path: &Path) -> io::Result<mpsc::Sender<Job>> {
    let mut file = File::create(path)?;
    let zeros = vec![0; 1 << 20];
    for _ in 0..FILE_BYTES >> 20 {
        file.write_all(&zeros)?;
    }
    file.sync_all()?;
    file.rewind()?;
    let (give, take) = mpsc::channel();
    std::thread::spawn(move || write(&file, &take));
    Ok(give)
}

fn write(mut file: &File, jobs: &mpsc::Receiver<Job>) -> io::Result<()> {
    let (mut group, mut tell, mut at) = (Vec::new(), Vec::new(), 0);
    while let Ok(first) = jobs.recv() {
        group.clear();
        for job in std::iter::once(first).chain(jobs.try_iter()) {
            group.extend_from_slice(&(job.frame.len() as u32).to_le_bytes());
            group.extend_from_slice(&job.frame);
            tell.push(job.tell);
        }
        if at + group.len() as u64 > FILE_BYTES {
            at = file.seek(SeekFrom::Start(0))?;
        }
        file.write_all(&group)?;
        file.sync_data()?;
        at += group.len() as u64;
        // A connection that is gone needs no answer.
        tell.drain(..).for_each(|tell| tell.send(()).unwrap_or_default());
    }
    Ok(())
}
