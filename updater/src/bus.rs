//! The engine on the system bus, as CoreOS and Flatcar have it: `com.coreos.update1`, with two
//! methods more (`Describe` and `ApplyFile`).

use tokio::sync::{mpsc, oneshot, watch};
use zbus::{Connection, Message, fdo, interface, object_server::SignalEmitter};

use crate::{engine::Asked, status::Status};

/// The engine's name on the bus.
pub const NAME: &str = "com.coreos.update1";
/// Its object.
pub const PATH: &str = "/com/coreos/update1";
/// Its interface.
pub const INTERFACE: &str = "com.coreos.update1.Manager";

/// What an operator wants.
#[derive(Debug)]
pub struct Wish {
    /// What.
    pub call: Call,
    /// Who waits for an answer: an error says why not.
    pub answer: oneshot::Sender<Result<(), String>>,
}

/// The methods that change something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Call {
    /// An update.
    Attempt(Asked),
    /// Back to where there was none.
    Reset,
}

/// The object on the bus.
#[derive(Debug)]
pub struct Manager {
    wishes: mpsc::UnboundedSender<Wish>,
    status: watch::Receiver<Status>,
}

impl Manager {
    /// One that hands wishes on, and tells the status that is seen last.
    pub fn new(wishes: mpsc::UnboundedSender<Wish>, status: watch::Receiver<Status>) -> Self {
        Self { wishes, status }
    }

    async fn wish(&self, call: Call) -> fdo::Result<()> {
        let (answer, answered) = oneshot::channel();
        let gone = || fdo::Error::Failed("the engine is on its way out".to_owned());
        self.wishes.send(Wish { call, answer }).map_err(|_| gone())?;
        answered.await.map_err(|_| gone())?.map_err(fdo::Error::Failed)
    }

    fn seen(&self) -> Status {
        self.status.borrow().clone()
    }
}

#[interface(name = "com.coreos.update1.Manager", introspection_docs = false)]
impl Manager {
    async fn attempt_update(&self) -> fdo::Result<()> {
        self.wish(Call::Attempt(Asked::Operator)).await
    }

    async fn apply_file(&self, path: String) -> fdo::Result<()> {
        self.wish(Call::Attempt(Asked::File(path.into()))).await
    }

    async fn reset_status(&self) -> fdo::Result<()> {
        self.wish(Call::Reset).await
    }

    #[zbus(out_args(
        "last_checked_time",
        "progress",
        "current_operation",
        "new_version",
        "new_size"
    ))]
    fn get_status(&self) -> (i64, f64, String, String, i64) {
        self.seen().tuple()
    }

    #[zbus(out_args("json"))]
    fn describe(&self) -> fdo::Result<String> {
        serde_json::to_string(&self.seen()).map_err(|error| fdo::Error::Failed(error.to_string()))
    }

    #[zbus(signal)]
    async fn status_update(
        emitter: &SignalEmitter<'_>,
        last_checked_time: i64,
        progress: f64,
        current_operation: &str,
        new_version: &str,
        new_size: i64,
    ) -> zbus::Result<()>;
}

/// Tells everybody who listens.
pub async fn publish(connection: &Connection, status: &Status) -> zbus::Result<()> {
    let (last_checked, progress, operation, version, size) = status.tuple();
    let emitter = SignalEmitter::new(connection, PATH)?;
    Manager::status_update(&emitter, last_checked, progress, &operation, &version, size).await
}

/// The other end: whoever asks the engine.
#[derive(Clone, Debug)]
pub struct Client(Connection);

/// Why the engine does not do what it was asked for.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    /// It said so.
    #[error("{0}")]
    Said(String),
    /// It is not there.
    #[error("the update engine does not run: `systemctl status update-engine` says why")]
    NotThere,
    /// It is another one.
    #[error("the update engine says what this client does not understand")]
    Status(#[source] serde_json::Error),
    /// The bus.
    #[error("asking the update engine")]
    Bus(#[source] zbus::Error),
}

impl Client {
    /// Over a connection.
    pub fn new(connection: Connection) -> Self {
        Self(connection)
    }

    /// What it is at.
    pub async fn status(&self) -> Result<Status, Refused> {
        let reply = self.call("Describe", &()).await?;
        let text: String = reply.body().deserialize().map_err(Refused::Bus)?;
        serde_json::from_str(&text).map_err(Refused::Status)
    }

    /// Asks for an update.
    pub async fn attempt(&self) -> Result<(), Refused> {
        self.call("AttemptUpdate", &()).await.map(drop)
    }

    /// Asks for an update from a file.
    pub async fn apply(&self, path: &str) -> Result<(), Refused> {
        self.call("ApplyFile", &(path,)).await.map(drop)
    }

    /// Asks to go back to where there was no update.
    pub async fn reset(&self) -> Result<(), Refused> {
        self.call("ResetStatus", &()).await.map(drop)
    }

    async fn call<B>(&self, method: &str, body: &B) -> Result<Message, Refused>
    where
        B: serde::Serialize + zbus::zvariant::DynamicType + Sync,
    {
        let reply = self.0.call_method(Some(NAME), PATH, Some(INTERFACE), method, body).await;
        reply.map_err(|error| match &error {
            zbus::Error::MethodError(name, said, _) => match name.as_str() {
                "org.freedesktop.DBus.Error.ServiceUnknown"
                | "org.freedesktop.DBus.Error.NameHasNoOwner" => Refused::NotThere,
                name => Refused::Said(said.clone().unwrap_or_else(|| name.to_owned())),
            },
            zbus::Error::FDO(said) => match said.as_ref() {
                fdo::Error::Failed(why) => Refused::Said(why.clone()),
                fdo::Error::ServiceUnknown(_) | fdo::Error::NameHasNoOwner(_) => Refused::NotThere,
                _ => Refused::Bus(error),
            },
            _ => Refused::Bus(error),
        })
    }
}
