//! How connections end when FINs and RSTs of clients have no timestamps: the kernel of the target
//! ends up in the same state as without POPs, on which each case runs too.
//!
//! A box in front of the client takes the timestamps out. Routes flip all the time.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddrV4, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use crate::common::flaps::while_flipping;
use crate::common::sockets::{Ends, GONE, Path, guard_time_wait};
use crate::common::{LIMIT, TARGET, eventually, full, milliseconds, netstat};
use anyrelay_kit::frames::{ACK, FIN, RST, Segment};
use anyrelay_lab::firewall::Firewall;
use anyrelay_lab::lab::LabBuilder;
use anyrelay_lab::middlebox::{Bare, Kind, Trouble};
use anyrelay_lab::packet::{Injector, MAX_FRAME_BYTES, PacketSocket};
use anyrelay_lab::traffic::Connection;
use anyrelay_lab::{Lab, Topology, topology};
use rustix::net::sockopt::set_socket_linger;

const SOON: Duration = Duration::from_secs(3);

/// Clients by what their segments have, and the boxes that make them so.
fn clients() -> [(&'static str, LabBuilder); 3] {
    let boxed = |kinds| {
        let bare = Bare { kinds, ..Bare::NONE };
        Lab::builder().direct().client_box(Trouble { bare, ..Trouble::NONE })
    };
    [
        ("bare FINs and RSTs", boxed(&[Kind::Fin, Kind::Reset])),
        ("timestamps in the SYN alone", boxed(Bare::ALL.kinds)),
        ("no timestamps", Lab::builder().direct().client_timestamps(false)),
    ]
}

fn listen(net: &Topology) -> TcpListener {
    net.target.run(|| TcpListener::bind(TARGET)).unwrap().unwrap()
}

fn connect(net: &Topology, path: Path) -> TcpStream {
    let connect = move || TcpStream::connect_timeout(&path.address().into(), LIMIT);
    let stream = net.client.run(connect).unwrap().unwrap();
    stream.set_read_timeout(Some(LIMIT)).unwrap();
    stream
}

/// Asserts that the box, if there is one, took timestamps out of so many segments.
fn saw_bare(net: &Topology, at_least: u32) {
    for bare in net.boxes.iter().map(|middlebox| middlebox.done().bare) {
        assert!(bare >= at_least.into(), "{bare} bare segments");
    }
}

/// A connection by both of its sockets; the target's is `None` once it is closed.
struct Pair {
    client: TcpStream,
    target: Option<TcpStream>,
    at_client: Ends,
    at_target: Ends,
    path: Path,
}

impl Pair {
    /// With some data in both directions.
    fn open(net: &Topology, listener: &TcpListener, path: Path) -> Self {
        let mut client = connect(net, path);
        let (mut target, _) = listener.accept().unwrap();
        target.set_read_timeout(Some(LIMIT)).unwrap();
        let (at_client, at_target) = (Ends::of(&client), Ends::of(&target));
        say(&mut client, &mut target);
        say(&mut target, &mut client);
        Self { client, target: Some(target), at_client, at_target, path }
    }

    fn wait(&self, net: &Topology, client: &str, target: &str) {
        let now = || {
            let at_target = self.at_target.state(&net.target);
            (self.at_client.state(&net.client), at_target)
        };
        let what = format!("{:?}: {client} at the client, {target} at the target", self.path);
        let start = Instant::now();
        while now() != (client, target) {
            assert!(start.elapsed() < SOON, "{what}: after {SOON:?} it is {:?}", now());
            std::thread::sleep(milliseconds(5));
        }
    }
}

/// Sends a RST, whatever the socket's state is.
fn reset(client: TcpStream) {
    set_socket_linger(&client, Some(Duration::ZERO)).unwrap();
}

fn say(from: &mut impl Write, to: &mut impl Read) {
    let mut heard = [0; 5];
    from.write_all(b"hello").unwrap();
    to.read_exact(&mut heard).unwrap();
    assert_eq!(&heard, b"hello");
}

fn hear_the_end(mut of: impl Read) {
    assert_eq!(of.read(&mut [0]).unwrap(), 0);
}

/// Client and target close in every order: each FIN is taken, and who closed first waits.
fn close_in_every_order(net: &Topology, listener: &TcpListener, path: Path) {
    // The client first; the target still has something to say.
    let mut pair = Pair::open(net, listener, path);
    pair.client.shutdown(Shutdown::Write).unwrap();
    hear_the_end(pair.target.as_ref().unwrap());
    pair.wait(net, "FIN-WAIT-2", "CLOSE-WAIT");
    say(pair.target.as_mut().unwrap(), &mut pair.client);
    pair.target = None;
    hear_the_end(&pair.client);
    pair.wait(net, "TIME-WAIT", GONE);

    // The target first; the client still has something to say.
    let mut pair = Pair::open(net, listener, path);
    pair.target.as_ref().unwrap().shutdown(Shutdown::Write).unwrap();
    hear_the_end(&pair.client);
    pair.wait(net, "CLOSE-WAIT", "FIN-WAIT-2");
    say(&mut pair.client, pair.target.as_mut().unwrap());
    pair.client.shutdown(Shutdown::Write).unwrap();
    hear_the_end(pair.target.as_ref().unwrap());
    pair.wait(net, GONE, "TIME-WAIT");

    // The target has forgotten all but what it waits for.
    let mut pair = Pair::open(net, listener, path);
    pair.target = None;
    hear_the_end(&pair.client);
    pair.wait(net, "CLOSE-WAIT", "FIN-WAIT-2");
    pair.client.shutdown(Shutdown::Write).unwrap();
    pair.wait(net, GONE, "TIME-WAIT");
}

#[test]
fn bare_fins_close() {
    for (client, builder) in clients() {
        let mut lab = builder.build().unwrap();
        let net = lab.topology.clone();
        let listener = listen(&net);
        guard_time_wait(&net.target, true);
        let rounds = if full() { 50 } else { 5 };
        let times = while_flipping(&mut lab.routes, || {
            Path::BOTH.map(|path| {
                let start = Instant::now();
                (0..rounds).for_each(|_| close_in_every_order(&net, &listener, path));
                (path, start.elapsed() / rounds)
            })
        });
        saw_bare(&net, 2 * 3 * rounds);
        println!("{client}: three connections, opened and closed: {times:?}");
    }
}

/// The client resets in every state of the target, and the target's socket is gone at once.
fn reset_in_every_state(net: &Topology, listener: &TcpListener, path: Path) {
    let pair = Pair::open(net, listener, path);
    pair.wait(net, "ESTAB", "ESTAB");
    let Pair { client, target, at_target, .. } = pair;
    reset(client);
    is_gone(net, "ESTAB", at_target);
    let error = target.unwrap().read(&mut [0]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionReset, "the server learns it");

    // Half closed, and closed: what waits then is another kind of socket.
    for is_closed in [false, true] {
        let mut pair = Pair::open(net, listener, path);
        pair.target.as_ref().unwrap().shutdown(Shutdown::Write).unwrap();
        if is_closed {
            pair.target = None;
        }
        hear_the_end(&pair.client);
        pair.wait(net, "CLOSE-WAIT", "FIN-WAIT-2");
        let Pair { client, target: _target, at_target, .. } = pair;
        reset(client);
        is_gone(net, "FIN-WAIT-2", at_target);
    }
}

fn is_gone(net: &Topology, before: &str, at_target: Ends) {
    eventually(&format!("a RST in {before} takes effect"), SOON, || {
        at_target.state(&net.target) == GONE
    });
}

/// The target has the SYN, and never gets the handshake's last ACK.
fn reset_in_syn_recv(net: &Topology, routers: [&Firewall; 2], path: Path) {
    const ACKS: &str = "ip saddr 192.0.2.0/24 tcp flags & (fin | syn | rst | ack) == ack drop";
    const SYN_ACKS: &str = "ip saddr 198.51.100.0/24 tcp flags & (syn | ack) == (syn | ack) drop";
    let [near, far] = routers;
    near.rule("prerouting", ACKS).unwrap();
    let client = connect(net, path);
    eventually("a half-open connection", SOON, || path.at_target(net, "SYN-RECV") == 1);
    // Or the client's kernel would answer the next one, without a socket, with another RST.
    far.rule("prerouting", SYN_ACKS).unwrap();
    reset(client);
    eventually("a RST in SYN-RECV takes effect", SOON, || path.at_target(net, "SYN-RECV") == 0);
    [near, far].iter().for_each(|firewall| firewall.flush("prerouting").unwrap());
}

/// A host has no socket to reset then, so the RST is made from its FIN: what it would answer to a
/// segment of the target, but with the options of its other segments.
fn reset_in_time_wait(net: &Topology, listener: &TcpListener, path: Path) {
    let seen = PacketSocket::open(&net.client, "net0").unwrap();
    let mut pair = Pair::open(net, listener, path);
    guard_time_wait(&net.target, true);
    pair.target = None;
    hear_the_end(&pair.client);
    pair.client.shutdown(Shutdown::Write).unwrap();
    pair.wait(net, GONE, "TIME-WAIT");
    guard_time_wait(&net.target, false);
    let mut buffer = [0; MAX_FRAME_BYTES];
    let mut fin = None;
    while let Some(frame) = seen.receive(&mut buffer) {
        let segment = Segment::read(&frame[14..]);
        fin = fin.or(segment.filter(|it| it.src == pair.at_client.local && it.flags & FIN != 0));
    }
    let fin = fin.expect("the client's FIN");
    let injector = Injector::open(&net.client).unwrap();
    let reset = fin.edit(|it| (it.seq, it.flags) = (fin.seq.wrapping_add(1), RST | ACK));
    injector.send(&reset.from_host()).unwrap();
    is_gone(net, "TIME-WAIT", pair.at_target);
}

#[test]
fn bare_resets_take_effect_in_every_state() {
    for (client, builder) in clients() {
        let mut lab = builder.build().unwrap();
        let net = lab.topology.clone();
        let listener = listen(&net);
        let near = Firewall::new(&net.client_router).unwrap();
        let far = Firewall::new(&net.target_router).unwrap();
        let rounds = if full() { 50 } else { 5 };
        while_flipping(&mut lab.routes, || {
            for _ in 0..rounds {
                for path in Path::BOTH {
                    reset_in_every_state(&net, &listener, path);
                    reset_in_syn_recv(&net, [&near, &far], path);
                    reset_in_time_wait(&net, &listener, path);
                }
            }
        });
        saw_bare(&net, 2 * 6 * rounds);
        println!("{client}: all are gone");
    }
}

/// From the same address and port, while the old connection is in TIME-WAIT at the target.
#[test]
fn clients_come_back_while_the_target_waits() {
    const AT_ONCE: Duration = Duration::from_millis(900);
    const TIMES: u16 = 5;
    for (client, builder) in clients() {
        let mut lab = builder.build().unwrap();
        let net = lab.topology.clone();
        let listener = listen(&net);
        while_flipping(&mut lab.routes, || {
            for (path, port) in Path::BOTH.into_iter().zip([20_000, 30_000]) {
                let refused = netstat(&net.client, "TCPSynRetrans");
                let ports = port..port + if full() { 10 * TIMES } else { TIMES };
                let from = ports.map(|port| SocketAddrV4::new(topology::CLIENT, port));
                let connect = |from| come_back(&net, &listener, from, path);
                let mut times: Vec<Duration> = from.map(connect).collect();
                times.sort_unstable();
                let refused = netstat(&net.client, "TCPSynRetrans") - refused;
                println!("{client}, {path:?}: {refused} SYNs refused, connected after {times:?}");
                assert!(times[times.len() - 1] < SOON, "{client}, {path:?}: {times:?}");
                if client == "no timestamps" && path == Path::Pops {
                    // Its SYN is older than what the target remembers (docs/limits.md).
                    assert!(refused >= times.len() as u64, "{refused} of {times:?}");
                } else {
                    assert!(times[times.len() / 2] < AT_ONCE, "{client}, {path:?}: {times:?}");
                }
            }
        });
    }
}

/// How long the second connect takes, of a connection that the target closes first.
fn come_back(net: &Topology, listener: &TcpListener, from: SocketAddrV4, path: Path) -> Duration {
    let connect = move || Connection::open_from(from, path.address());
    let first = net.client.run(connect).unwrap().unwrap();
    let target = listener.accept().unwrap().0;
    let at_target = Ends::of(&target);
    drop(target);
    hear_the_end(first.stream());
    let at_client = Ends::of(first.stream());
    guard_time_wait(&net.target, true);
    drop(first);
    eventually("the target waits, and the client does not", SOON, || {
        at_target.state(&net.target) == "TIME-WAIT" && at_client.state(&net.client) == GONE
    });
    guard_time_wait(&net.target, false);
    let start = Instant::now();
    let second = net.client.run(connect).unwrap().unwrap();
    let took = start.elapsed();
    let mut target = listener.accept().unwrap().0;
    say(&mut second.stream(), &mut target);
    say(&mut target, &mut second.stream());
    took
}
