//! The start, step by step: each either succeeds or ends it with one sentence for the operator.
//!
//! Order matters. What can refuse without having changed anything comes first (limits, io_uring, addresses, the lock of
//! the directory); helper threads are started before shards are pinned, because threads inherit the pin; nothing is
//! accepted before every shard has said that it is ready.

mod recovery;
mod rings;

use crate::admin;
use crate::clock::Clock;
use crate::config::{Config, WriteChoice};
use crate::limits::{LISTEN_RETRY, LISTEN_WAIT, SPARE_SLOTS_MIN, SPARE_SLOTS_SHARE};
use crate::port::Rings;
use crate::pump::{News, Order, Pump, PumpSetup};
use crate::retention::{self, RetentionThread, erased_of};
use crate::scans::Scanner;
use crate::segments::Segments;
use crate::snapshots::{self, Snapshotter, Told};
use crate::space::SpaceWatch;
use crate::stats::{Board, Phase, figures};
use crate::token::{Secret, SecretOrigin, Verifier};
use recovery::{Recovered, recover};
use rings::ShardThread;
use std::io::ErrorKind;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Instant;
use tidegate_domain::Route;
use tidegate_ids::{LogId, ShardIndex};
use tidegate_reactor::{Limits, Reactor, RingHandle, ThreadWaker};
use tidegate_shard::{MESH_FRAME_BYTES_MAX, Shard, ShardLimits, ShardSetup};
use tidegate_storage_files::{
    CoveredSegments, DataDir, ErasureKeeper, FactoryOptions, OpenError, OpenOptions, Opened, ReadPool,
    SegmentFactory, SegmentTails, Wake, WriteMode,
};
use tidegate_storage_log::{Appender, AppenderConfig, BatchBytes, ErasedRanges, Guard};

/// Why the gateway did not start. Each is the operator's to change, and says what.
#[derive(Debug, thiserror::Error)]
pub enum BootError {
    /// Tokens could be forged by whoever reads the data directory's default.
    #[error(
        "listening on {0}, beyond loopback, needs a token secret of your own: set token.secret_file or token.secret \
         (TIDEGATE_TOKEN__SECRET), or listen on 127.0.0.1"
    )]
    NoSecret(SocketAddr),
    /// No secret.
    #[error(transparent)]
    Secret(#[from] crate::token::SecretError),
    /// The kernel or a limit refuses the rings.
    #[error(transparent)]
    Ring(#[from] tidegate_reactor::SetupError),
    /// An address is taken, or not ours.
    #[error("cannot listen on {address} ({what}): {source}{}", listen_way_out(source))]
    Listen {
        /// Which.
        address: SocketAddr,
        /// For what.
        what: &'static str,
        /// What the system said.
        source: std::io::Error,
    },
    /// The data directory.
    #[error(transparent)]
    Directory(#[from] OpenError),
    /// Direct writes were asked for, and cannot be had there.
    #[error(
        "the file system of {} refuses direct writes (O_DIRECT): set storage.write_mode = \"linked\", or leave it \"auto\"",
        directory.display()
    )]
    DirectRefused {
        /// The data directory.
        directory: PathBuf,
    },
    /// What was written cannot be read.
    #[error(transparent)]
    Recovery(#[from] tidegate_storage_files::RecoverError),
    /// A snapshot that may not be used.
    #[error(transparent)]
    Snapshots(#[from] tidegate_storage_files::SnapshotsError),
    /// A snapshot that was lost could not be made again.
    #[error(
        "the newest snapshot is lost or damaged, and cannot be made again from the logs: {0}; put a backup back, or see with \
         `tidegate-log repair --dry-run` whether a copy with what is left can be made"
    )]
    SnapshotLost(String),
    /// No snapshot is left of what only snapshots held. Recovered from a backup alone: a repair refuses as well.
    #[error(
        "the snapshots are lost or damaged, and cannot be made again from the logs: retention has let bodies go that only they \
         held; put a backup back"
    )]
    SnapshotsGone,
    /// What somebody asked to erase must not be given out, and nobody can say what that is.
    #[error(transparent)]
    Erasures(#[from] tidegate_storage_files::ErasureError),
    /// Sizes of the log that do not fit each other.
    #[error("storage: {0}")]
    Log(String),
    /// Rings between shards that do not fit their frames.
    #[error("mesh: {0}")]
    Mesh(#[from] tidegate_mesh::MeshConfigError),
    /// No thread left, or no processors given.
    #[error("cannot {what}: {source}")]
    System {
        /// What was tried.
        what: &'static str,
        /// What the system said.
        source: std::io::Error,
    },
}

/// What an operator can do about an address that cannot be had.
fn listen_way_out(source: &std::io::Error) -> &'static str {
    match source.kind() {
        ErrorKind::PermissionDenied => {
            ": a port below 1024 needs the capability CAP_NET_BIND_SERVICE; take a higher one, or give it"
        }
        ErrorKind::AddrNotAvailable => ": this machine does not have that address",
        _ => "",
    }
}

impl BootError {
    fn system(what: &'static str) -> impl FnOnce(std::io::Error) -> Self {
        move |source| Self::System { what, source }
    }
}

/// A gateway whose shards run; nothing is accepted yet.
pub struct Gateway {
    shards: Vec<ShardThread>,
    listeners: Vec<OwnedFd>,
    /// Where clients connect.
    pub listen: SocketAddr,
    /// Where operators look.
    pub admin: SocketAddr,
    /// Where the secret came from that tokens are signed with.
    pub secret: SecretOrigin,
    news: Receiver<News>,
    board: Arc<Board>,
    factory: SegmentFactory,
    scanner: Scanner,
    space: SpaceWatch,
    snapshotter: Snapshotter,
    retention: RetentionThread,
}

/// What the first steps found.
struct Ground {
    cpus: Vec<usize>,
    shards: u16,
    ring: tidegate_reactor::Config,
    limits: ShardLimits,
}

/// Starts everything up to running shards.
///
/// # Errors
/// See [`BootError`].
pub fn start(config: &Config) -> Result<Gateway, BootError> {
    let ground = survey(config)?;
    let (listeners, listen) = listen(config, ground.shards)?;
    let admin_listener = TcpListener::bind(config.admin)
        .and_then(|listener| listener.set_nonblocking(true).map(|()| listener))
        .map_err(|source| BootError::Listen { address: config.admin, what: "admin", source })?;
    let admin = admin_listener.local_addr().map_err(BootError::system("read the admin address"))?;
    // After the addresses are ours: a start that is refused leaves nothing behind.
    let secret = Secret::load(&config.token, &config.data)?;
    let mut dir = open_directory(config, ground.shards)?;
    let board = Arc::new(Board::new(ground.shards));
    let (news_sender, news) = channel();
    admin::spawn(admin_listener, Arc::clone(&board), news_sender.clone())
        .map_err(BootError::system("start the admin thread"))?;
    let threads = rings::spawn(&ground.ring, &ground.cpus, ground.shards)?;
    let recovered = recover(&mut dir, Route::new(ground.shards))?;
    board.note_recovery(recovered.damage_count, recovered.lost_count, recovered.is_renewed);
    board.note_large_users(&recovered.large_users);
    let space = SpaceWatch::start(dir.path().to_owned(), config.storage.free_bytes_min)
        .map_err(BootError::system("start the thread that watches free space"))?;
    let keeper = ErasureKeeper::open(&dir)?;
    let wiring = Wiring {
        config,
        ground: &ground,
        secret: &secret,
        dir: &dir,
        board: &board,
        news: &news_sender,
        space: &space,
        covered: CoveredSegments::default(),
        erased: keeper.list().all_ranges(),
    };
    let Helpers { factory, scanner, snapshotter, told } = wiring.start_shards(&threads, recovered)?;
    let reach: Vec<_> = threads.iter().map(ShardThread::reach).collect();
    let setup = retention::Setup {
        covered: wiring.covered,
        keeper,
        route: Route::new(ground.shards),
        told,
        order: Box::new(move |shard: ShardIndex, order| reach[usize::from(shard.0)].order(order)),
        board: Arc::clone(&board),
    };
    let retention = RetentionThread::start(&dir, &config.retention, setup)
        .map_err(BootError::system("start the thread that lets old messages go"))?;
    Ok(Gateway {
        shards: threads,
        listeners,
        listen,
        admin,
        secret: secret.origin().clone(),
        news,
        board,
        factory,
        scanner,
        space,
        snapshotter,
        retention,
    })
}

/// What can refuse before anything was touched: limits, io_uring.
fn survey(config: &Config) -> Result<Ground, BootError> {
    let configured = config.token.secret.is_some() || config.token.secret_file.is_some();
    if !configured && !config.listen.ip().is_loopback() {
        return Err(BootError::NoSecret(config.listen));
    }
    let cpus = rings::cpus().map_err(BootError::system("read the processors of this process"))?;
    let shards = config.shards.unwrap_or(u16::try_from(cpus.len()).unwrap_or(u16::MAX));
    let shards = shards.clamp(1, crate::limits::SHARDS_MAX);
    raise_descriptors();
    let connections = config.limits.connections_max;
    let slots = connections + spare_slots(connections);
    let wanted = tidegate_reactor::Config {
        slots: u32::try_from(slots).unwrap_or(u32::MAX),
        buffers: config.network.receive_buffers,
        buffer_bytes: config.network.receive_buffer_bytes,
        ..tidegate_reactor::Config::default()
    };
    let ring = wanted.fitted(u32::from(shards), &Limits::current())?;
    rings::probe()?;
    let mut limits = config.limits.to_shard(config.echo);
    if (ring.slots as usize) < slots {
        let allowed = ring.slots as usize;
        limits.connections_max = allowed.saturating_sub(spare_slots(allowed)).clamp(1, connections);
        let connections_max = limits.connections_max;
        tracing::warn!(
            connections_max,
            configured = connections,
            "RLIMIT_NOFILE is {allowed}: a shard takes fewer connections than limits.connections_max says; raise the hard \
             limit to {slots} (ulimit -Hn, LimitNOFILE= of a unit), or set connections_max to {connections_max}"
        );
    }
    if !config.listen.ip().is_loopback() {
        tracing::warn!("any user id may be written to, also one that no token was issued for (users.open)");
    }
    tracing::info!(
        shards,
        ring_entries = ring.submission_entries,
        receive_buffers = ring.buffers,
        "rings take {} KiB each",
        ring.memory_needed() / 1024
    );
    Ok(Ground { cpus, shards, ring, limits })
}

/// Slots beside those that are served.
fn spare_slots(connections: usize) -> usize {
    (connections / SPARE_SLOTS_SHARE).max(SPARE_SLOTS_MIN)
}

/// A process begins with few descriptors so that old programs with `select` work; this one may use all it is allowed.
fn raise_descriptors() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    if let Err(error) = setrlimit(Resource::Nofile, raised) {
        tracing::warn!(%error, "cannot raise RLIMIT_NOFILE to its hard limit");
    }
}

fn listen(config: &Config, shards: u16) -> Result<(Vec<OwnedFd>, SocketAddr), BootError> {
    let refused = |source| BootError::Listen { address: config.listen, what: "WebSocket", source };
    let began = Instant::now();
    let (listeners, address) = loop {
        match tidegate_reactor::listeners(config.listen, usize::from(shards)) {
            // A gateway that was killed a moment ago is not wound up yet.
            Err(error) if error.kind() == ErrorKind::AddrInUse && began.elapsed() < LISTEN_WAIT => {
                std::thread::sleep(LISTEN_RETRY);
            }
            result => break result.map_err(refused)?,
        }
    };
    for listener in &listeners {
        rustix::net::listen(listener, i32::from(config.network.backlog))
            .map_err(|errno| refused(errno.into()))?;
    }
    Ok((listeners, address))
}

/// Opens the data directory, with direct writes where wanted and possible.
fn open_directory(config: &Config, shards: u16) -> Result<DataDir, BootError> {
    let open = |write_mode| {
        let segment_bytes = config.storage.segment_bytes;
        DataDir::open(&config.data, &OpenOptions { segment_bytes, write_mode, ..OpenOptions::new(shards) })
    };
    let dir = match config.storage.write_mode {
        WriteChoice::Linked => open(WriteMode::Buffered)?,
        WriteChoice::Direct => open(WriteMode::Direct).map_err(|error| match error {
            OpenError::DirectRefused { directory } => BootError::DirectRefused { directory },
            other => BootError::Directory(other),
        })?,
        WriteChoice::Auto => match open(WriteMode::Direct) {
            Err(OpenError::DirectRefused { .. }) => open(WriteMode::Buffered)?,
            opened => opened?,
        },
    };
    let writes = match dir.options().write_mode {
        WriteMode::Direct => "direct",
        WriteMode::Buffered => "linked",
    };
    let path = dir.path().display();
    match dir.opened() {
        Opened::Created => tracing::info!(writes, "made data directory {path}"),
        Opened::Continued => tracing::info!(writes, epoch = dir.epoch(), "opened data directory {path}"),
        Opened::NewEpoch { previous_shards } => tracing::info!(
            writes,
            epoch = dir.epoch(),
            "opened data directory {path}: {shards} shards after {previous_shards}"
        ),
    }
    Ok(dir)
}

/// Threads beside the shards.
struct Helpers {
    factory: SegmentFactory,
    scanner: Scanner,
    snapshotter: Snapshotter,
    told: Sender<Told>,
}

/// What every shard's setup is taken from.
struct Wiring<'a> {
    config: &'a Config,
    ground: &'a Ground,
    secret: &'a Secret,
    dir: &'a DataDir,
    board: &'a Arc<Board>,
    news: &'a Sender<News>,
    space: &'a SpaceWatch,
    covered: CoveredSegments,
    /// What no shard gives out.
    erased: ErasedRanges,
}

impl Wiring<'_> {
    /// Starts the helper threads, then hands every shard's thread what it needs.
    fn start_shards(&self, threads: &[ShardThread], recovered: Recovered) -> Result<Helpers, BootError> {
        let wakes = || threads.iter().map(|thread| wake(&thread.waker)).collect::<Vec<Wake>>();
        let options = FactoryOptions { spares: self.config.storage.spares, ..FactoryOptions::default() };
        let (factory, spares) = SegmentFactory::start(self.dir, options, wakes())
            .map_err(BootError::system("start the segment thread"))?;
        let (scanner, scans) = Scanner::start(self.dir.reader(), recovered.extents, wakes())
            .map_err(BootError::system("start the scan thread"))?;
        let newest = recovered.snapshots.newest().cloned();
        let setup = snapshots::Setup {
            snapshots: recovered.snapshots,
            planner: recovered.planner,
            known_damage: recovered.known_damage,
            bytes_min: self.config.storage.snapshot_bytes,
            tails: SegmentTails::new(self.dir),
            closed: recovered.closed,
            covered: self.covered.clone(),
            board: Arc::clone(self.board),
        };
        let (snapshotter, told) = self.start_snapshotter(setup, threads)?;
        let mesh = tidegate_mesh::build(threads.len(), self.config.mesh.ring_bytes, MESH_FRAME_BYTES_MAX)?;
        let peers: Vec<RingHandle> = threads.iter().map(|thread| thread.handle.clone()).collect();
        let clock = Clock::start();
        let ends = mesh.into_iter().zip(spares).zip(scans).zip(recovered.shards).zip(threads);
        for ((((mesh, spares), scans), (start, seed)), thread) in ends {
            let index = ShardIndex(mesh.shard());
            let reads =
                ReadPool::start(self.dir, self.ground.limits.reads_in_flight_max, wake(&thread.waker))
                    .map_err(BootError::system("start a reader thread"))?;
            let setup = ShardSetup {
                index,
                route: Route::new(self.ground.shards),
                limits: self.ground.limits.clone(),
                tokens: Box::new(Verifier::new(self.secret)),
                seed: rand::random(),
                incarnation: self.dir.incarnation(),
                appender: self.appender(start)?,
                seed_of_logs: seed,
            };
            let guard = Guard::new(&self.dir.identity(index).directory);
            let segments = Segments::new(self.dir.block_bytes(), guard);
            let (log, indexes) = (LogId { epoch: self.dir.epoch(), shard: index }, self.dir.indexes());
            let (mesh, peers) = (Rings(mesh), peers.clone());
            let (snapshot, told) = (newest.clone(), told.clone());
            let (board, news) = (Arc::clone(self.board), self.news.clone());
            let space = Arc::clone(self.space.space());
            let erased = erased_of(&self.erased, Route::new(self.ground.shards), index);
            thread.start(Box::new(move |reactor: Reactor<BatchBytes>, orders| {
                let pump = PumpSetup {
                    reactor,
                    mesh,
                    peers,
                    spares,
                    reads,
                    scans,
                    segments,
                    indexes,
                    log,
                    space,
                    snapshot,
                    told,
                    orders,
                    news,
                    board,
                    clock,
                };
                Pump::new(pump, shard(setup, erased)).run()
            }));
        }
        Ok(Helpers { factory, scanner, snapshotter, told })
    }

    fn start_snapshotter(
        &self,
        setup: snapshots::Setup,
        threads: &[ShardThread],
    ) -> Result<(Snapshotter, Sender<Told>), BootError> {
        let reach: Vec<_> = threads.iter().map(ShardThread::reach).collect();
        let tell = move |shard: ShardIndex, new| reach[usize::from(shard.0)].order(Order::Snapshot(new));
        Snapshotter::start(setup, self.ground.shards, tell)
            .map_err(BootError::system("start the snapshot thread"))
    }

    fn appender(&self, start: tidegate_storage_log::AppenderStart) -> Result<Appender, BootError> {
        let storage = &self.config.storage;
        let config = AppenderConfig {
            segment_bytes: storage.segment_bytes,
            block_bytes: self.dir.block_bytes(),
            staging_bytes: storage.staging_bytes,
            batch_bytes_max: storage.batch_bytes_max,
        };
        Appender::new(&config, start).map_err(|error| BootError::Log(format!("{error:?}")))
    }
}

/// A shard that gives out nothing that was asked to be erased, from its first turn on.
fn shard(setup: ShardSetup, erased: ErasedRanges) -> Shard {
    let mut shard = Shard::new(setup);
    shard.erase(erased);
    shard
}

fn wake(waker: &ThreadWaker) -> Wake {
    let waker = waker.clone();
    Box::new(move || waker.wake())
}

impl Gateway {
    /// Serves until it is asked to stop and everything is committed and sealed. `ready` is called once.
    pub fn serve(self, ready: impl FnOnce(SocketAddr, SocketAddr)) {
        let Self {
            shards,
            listeners,
            listen,
            admin,
            secret: _,
            news,
            board,
            factory,
            scanner,
            space,
            snapshotter,
            retention,
        } = self;
        let mut waiting = Some((listeners, ready));
        let (mut ready_count, mut stopped_count) = (0, 0);
        let mut stopping = false;
        while stopped_count < shards.len() {
            // The admin thread holds a sender as long as the process lives.
            let Ok(heard) = news.recv() else { break };
            match heard {
                News::Ready(shard) => {
                    tracing::debug!(shard, "a shard is ready");
                    ready_count += 1;
                }
                News::Stopped(shard) => {
                    tracing::debug!(shard, "a shard has stopped");
                    stopped_count += 1;
                }
                News::Signal if stopping => {}
                News::Signal => {
                    stopping = true;
                    tracing::info!(
                        "stopping: clients are told to go; a second signal ends the process at once"
                    );
                    board.enter(Phase::Draining);
                    snapshotter.stop();
                    shards.iter().for_each(|shard| shard.order(Order::Stop));
                }
            }
            let all_ready = ready_count == shards.len() && !stopping;
            if let Some((listeners, ready)) = waiting.take_if(|_| all_ready) {
                for (shard, listener) in shards.iter().zip(listeners) {
                    shard.order(Order::Accept(listener));
                }
                board.enter(Phase::Ready);
                ready(listen, admin);
            }
        }
        shards.iter().for_each(|shard| shard.order(Order::Exit));
        for shard in shards {
            shard.join();
        }
        scanner.join();
        // It tells the snapshotter, which ends once nobody does.
        drop(retention);
        snapshotter.join();
        drop(factory);
        drop(space);
        if board.has(figures::LATCHED) {
            tracing::warn!("stopped; a log had failed: what was not committed before is not there");
        } else {
            tracing::info!("stopped: everything is committed and sealed");
        }
    }
}
