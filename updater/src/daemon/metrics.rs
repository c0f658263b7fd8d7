//! What the engine is at, for Prometheus, on a socket of its own: nothing of it is on the network.
//!
//! ```text
//! curl --unix-socket /run/update-engine/metrics.sock http://localhost/metrics
//! ```

use std::{fs, io, os::unix::fs::PermissionsExt, path::Path, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{UnixListener, UnixStream},
    sync::watch,
    time::timeout,
};

use crate::status::Status;

/// No request has more.
const REQUEST_BYTES: usize = 8 << 10;
const PATIENCE: Duration = Duration::from_secs(5);

/// Listens at `path`, in the place of who did before.
pub(super) fn listen(path: &Path) -> io::Result<UnixListener> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    let listener = UnixListener::bind(path)?;
    // Everybody may look: the bus tells everybody the same.
    fs::set_permissions(path, fs::Permissions::from_mode(0o666))?;
    Ok(listener)
}

/// Answers, one after the other, for ever.
pub(super) async fn serve(listener: UnixListener, status: watch::Receiver<Status>) {
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            // Such as too many open files: it gets better by waiting.
            tokio::time::sleep(PATIENCE).await;
            continue;
        };
        let text = status.borrow().metrics();
        // Whoever asks and does not listen gets nothing.
        let _ = timeout(PATIENCE, answer(stream, &text)).await;
    }
}

async fn answer(mut stream: UnixStream, text: &str) -> io::Result<()> {
    let mut request = Vec::new();
    while !request.windows(4).any(|end| end == b"\r\n\r\n") {
        if request.len() > REQUEST_BYTES || stream.read_buf(&mut request).await? == 0 {
            return Ok(());
        }
    }
    let (status, kind, body) = match request.split(|byte| *byte == b' ').collect::<Vec<_>>()[..] {
        [b"GET", b"/metrics" | b"/", ..] => ("200 OK", "text/plain; version=0.0.4", text),
        _ => ("404 Not Found", "text/plain", "expected GET /metrics\n"),
    };
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).await?;
    stream.write_all(body.as_bytes()).await?;
    stream.shutdown().await
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn ask(request: &[u8]) -> String {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("metrics.sock");
        // A socket that an engine left behind is in nobody's way.
        drop(listen(&path).unwrap());
        let listener = listen(&path).unwrap();
        let mut stream = UnixStream::connect(&path).await.unwrap();
        stream.write_all(request).await.unwrap();
        let (other, _) = listener.accept().await.unwrap();
        answer(other, "up 1\n").await.unwrap();
        let mut said = String::new();
        stream.read_to_string(&mut said).await.unwrap();
        said
    }

    #[tokio::test]
    async fn who_asks_for_metrics_gets_them() {
        let said = ask(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
        assert!(
            said.starts_with("HTTP/1.1 200 OK\r\n") && said.ends_with("\r\n\r\nup 1\n"),
            "{said}"
        );
        let said = ask(b"POST /reset HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
        assert!(said.starts_with("HTTP/1.1 404 "), "{said}");
    }
}
