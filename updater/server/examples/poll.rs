//! Many machines that ask a server at once: a measurement for `./pith bench`. It starts
//! `update-server` from beside itself, on loopback and a new folder, and prints a table.
//!
//! Each client keeps a connection and asks in turns for `timestamp.json`, as it had it, and by Omaha,
//! with every tenth report an event. Everything runs on this machine, the clients included.

use std::{
    fs,
    io::{BufRead, BufReader},
    net::SocketAddr,
    path::Path,
    process::{Child, Command, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use clap::Parser;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::Barrier,
};

/// Connections that are begun at once: the kernel keeps a short queue of them.
const BEGUN_AT_ONCE: usize = 500;

#[derive(Parser)]
struct Words {
    /// Machines
    #[arg(long, default_value_t = 10_000)]
    clients: usize,
    /// For how long they ask
    #[arg(long, default_value_t = 20)]
    seconds: u64,
}

/// How long answers took.
#[derive(Default)]
struct Times {
    files: Vec<Duration>,
    reports: Vec<Duration>,
    failures: u64,
}

fn main() -> Result<()> {
    let words = Words::parse();
    let files = update_server::http::raise_files().context("raising the limit of open files")?;
    ensure!(files > words.clients as u64 + 100, "only {files} files may be open");
    let folder = tempfile::tempdir().context("making a folder")?;
    let (mut server, address) = start(folder.path())?;
    let idle = memory(&server, "VmRSS")?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let measured = runtime.block_on(measure(address, &words));
    let peak = memory(&server, "VmHWM")?;
    server.kill().and_then(|()| server.wait()).context("ending the server")?;
    let (times, first, whole) = measured?;
    let database = fs::metadata(folder.path().join("state/fleet.sqlite"))?.len();
    ensure!(times.failures == 0, "{} questions were not answered as they should", times.failures);
    print!("{}", table(&words, times, first, whole, [idle, peak, database]));
    Ok(())
}

fn start(folder: &Path) -> Result<(Child, SocketAddr)> {
    let own = std::env::current_exe().context("finding myself")?;
    let beside = own.ancestors().nth(2).context("I am in no target folder")?;
    let metadata = folder.join("repo/metadata");
    fs::create_dir_all(&metadata)?;
    fs::write(metadata.join("timestamp.json"), "x".repeat(600))?;
    let mut server = Command::new(beside.join("update-server"))
        .args(["serve", "--listen", "127.0.0.1:0", "--operators", "127.0.0.1:0", "--state"])
        .args([folder.join("state"), folder.join("repo")])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .context("starting update-server, which `cargo build -p update-server` makes")?;
    let mut line = String::new();
    BufReader::new(server.stdout.take().context("it has an output")?).read_line(&mut line)?;
    let address = line.trim().strip_prefix("machines: http://").context("where it listens")?;
    Ok((server, address.trim_end_matches('/').parse()?))
}

/// Of a process, in bytes.
fn memory(server: &Child, field: &str) -> Result<u64> {
    let status = fs::read_to_string(format!("/proc/{}/status", server.id()))?;
    let line = status.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
    let kib: u64 = line.context(field.to_owned())?.trim().trim_end_matches(" kB").parse()?;
    Ok(kib * 1024)
}

/// The times, how long it took until everybody was answered once, and all of it.
async fn measure(to: SocketAddr, words: &Words) -> Result<(Times, Duration, Duration)> {
    let mut streams = Vec::with_capacity(words.clients);
    for begun in (0..words.clients).collect::<Vec<_>>().chunks(BEGUN_AT_ONCE) {
        let some = begun.iter().map(|_| tokio::spawn(TcpStream::connect(to)));
        for stream in some.collect::<Vec<_>>() {
            streams.push(stream.await?.context("connecting")?);
        }
    }
    let ready = Arc::new(Barrier::new(words.clients + 1));
    let answered = Arc::new(Barrier::new(words.clients + 1));
    let seconds = Duration::from_secs(words.seconds);
    let clients = streams.into_iter().enumerate().map(|(number, stream)| {
        tokio::spawn(client(number, stream, seconds, ready.clone(), answered.clone()))
    });
    let clients: Vec<_> = clients.collect();
    ready.wait().await;
    let start = Instant::now();
    answered.wait().await;
    let first = start.elapsed();
    let mut all = Times::default();
    for client in clients {
        let times = client.await??;
        all.files.extend(times.files);
        all.reports.extend(times.reports);
        all.failures += times.failures;
    }
    Ok((all, first, start.elapsed()))
}

async fn client(
    number: usize,
    mut stream: TcpStream,
    seconds: Duration,
    ready: Arc<Barrier>,
    answered: Arc<Barrier>,
) -> Result<Times> {
    stream.set_nodelay(true)?;
    let mut times = Times::default();
    let mut tag = String::new();
    ready.wait().await;
    let start = Instant::now();
    let mut round = 0;
    while round == 0 || start.elapsed() < seconds {
        let begun = Instant::now();
        let condition =
            if tag.is_empty() { String::new() } else { format!("If-None-Match: {tag}\r\n") };
        let question =
            format!("GET /metadata/timestamp.json HTTP/1.1\r\nHost: a\r\n{condition}\r\n");
        let (status, head) = exchange(&mut stream, &question).await?;
        times.files.push(begun.elapsed());
        times.failures += u64::from(status != if tag.is_empty() { 200 } else { 304 });
        if let Some(found) = head.lines().find_map(|line| line.strip_prefix("etag: ")) {
            tag = found.to_owned();
        }

        let begun = Instant::now();
        let event = if (number + round).is_multiple_of(10) {
            "<event eventtype='13' eventresult='1' nextversion='1.1'/>"
        } else {
            ""
        };
        let body = format!(
            "<request protocol=\"3.0\"><app appid=\"{}\" version=\"1.0\" track=\"stable\" \
             board=\"cloud-x86_64\" machineid=\"{number:032x}\"><ping active=\"1\"/>\
             <updatecheck/>{event}</app></request>",
            omaha::PITHOS
        );
        let length = body.len();
        let question = format!(
            "POST /v1/update/ HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n{body}"
        );
        let (status, _) = exchange(&mut stream, &question).await?;
        times.reports.push(begun.elapsed());
        times.failures += u64::from(status != 200);
        if round == 0 {
            answered.wait().await;
        }
        round += 1;
    }
    Ok(times)
}

/// The status and the head of an answer; its content is read and forgotten.
async fn exchange(stream: &mut TcpStream, question: &str) -> Result<(u16, String)> {
    stream.write_all(question.as_bytes()).await?;
    let mut bytes = Vec::with_capacity(1024);
    loop {
        ensure!(stream.read_buf(&mut bytes).await? > 0, "the server closed the connection");
        let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") else { continue };
        let head = String::from_utf8_lossy(&bytes[..end]).to_ascii_lowercase();
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
        let length: usize = length.map_or(Ok(0), str::parse)?;
        while bytes.len() < end + 4 + length {
            ensure!(stream.read_buf(&mut bytes).await? > 0, "the answer ended early");
        }
        let status = head.split(' ').nth(1).context("an answer has a status")?.parse()?;
        return Ok((status, head));
    }
}

fn table(
    words: &Words,
    mut times: Times,
    first: Duration,
    whole: Duration,
    [idle, peak, database]: [u64; 3],
) -> String {
    let rate = |times: &[Duration]| times.len() as f64 / whole.as_secs_f64();
    let rates = (rate(&times.files), rate(&times.reports));
    let row = |name: &str, rate: f64, times: &mut Vec<Duration>| {
        times.sort_unstable();
        let at = |share: f64| {
            let index = ((times.len() - 1) as f64 * share) as usize;
            times[index].as_secs_f64() * 1000.0
        };
        format!("| {name} | {rate:.0} | {:.0} | {:.0} |\n", at(0.5), at(0.99))
    };
    let files = row("timestamp.json, not changed", rates.0, &mut times.files);
    let reports =
        row("Omaha: ping and check, on the disk when answered", rates.1, &mut times.reports);
    let mb = |bytes: u64| bytes as f64 / 1e6;
    format!(
        "| | requests/s | p50 ms | p99 ms |\n| --- | --- | --- | --- |\n{files}{reports}\n\
         {} clients, each with a connection, without a pause for {} s. Everybody was answered once \
         after {:.1} s. Memory: {:.0} MB idle, {:.0} MB at most. The database had {:.1} MB.\n",
        words.clients,
        words.seconds,
        first.as_secs_f64(),
        mb(idle),
        mb(peak),
        mb(database)
    )
}
