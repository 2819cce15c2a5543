//! Pairs of sockets: streams, messages, shutting down.

use rumpvm_files::node::Call;
use rumpvm_files::socket::{Manner, Received, Socket, Take};
use rumpvm_files::{Errno, OpenFlags, Ready, Rights};

use crate::world::{File, Home, User, World};

fn pair(user: &User, manner: Manner, flags: OpenFlags) -> [File; 2] {
    user.tree.socket_pair(manner, flags, &user.who).expect("a pair")
}

#[test]
fn a_stream_carries_bytes_both_ways_until_one_side_ends() {
    World::new().run(|user| {
        let [here, there] = pair(user, Manner::Stream, OpenFlags::empty());
        user.spawn(move |user| {
            let question = user.read(&there, 100).unwrap();
            assert_eq!(user.write(&there, &[question, b"!".to_vec()].concat()), Ok(6));
            assert_eq!(user.write(&there, &vec![7; 500_000]), Ok(500_000));
        });
        assert_eq!(user.write(&here, b"hello"), Ok(5));
        let mut all = Vec::new();
        loop {
            let piece = user.read(&here, 60_000).unwrap();
            if piece.is_empty() {
                break;
            }
            all.extend(piece);
        }
        assert_eq!((&all[..6], all.len()), (&b"hello!"[..], 500_006));
        assert_eq!(user.write(&here, b"x"), Err(Errno::EPIPE));
        assert!(here.ready().contains(Ready::HANG_UP | Ready::IN));
        assert_eq!(here.stat().mode & 0o170_000, 0o140_000);
    });
}

#[test]
fn messages_keep_their_bounds_and_lose_what_has_no_room() {
    World::new().run(|user| {
        for manner in [Manner::Datagram, Manner::Packets] {
            let [here, there] = pair(user, manner, OpenFlags::NONBLOCK);
            user.write(&here, b"first message").unwrap();
            user.write(&here, b"second").unwrap();
            let socket: &Socket<Home> = there.special().unwrap();
            let call = Call { waker: &user.waker, nonblocking: true };
            let mut bytes = [0; 5];
            let seen = socket.receive(&call, &mut &mut bytes[..], Take::Look);
            assert_eq!(seen, Ok(Received { count: 5, length: 13 }));
            assert_eq!(user.read(&there, 5).unwrap(), b"first");
            assert_eq!(user.read(&there, 50).unwrap(), b"second");
            assert_eq!(user.read(&there, 50), Err(Errno::EAGAIN));
            assert_eq!(user.write(&here, &vec![0; 300_000]), Err(Errno::EMSGSIZE));
            drop(here);
            let (end, broken) = match manner {
                Manner::Datagram => (Err(Errno::EAGAIN), Errno::ECONNREFUSED),
                _ => (Ok(vec![]), Errno::EPIPE),
            };
            assert_eq!(user.read(&there, 5), end);
            assert_eq!(user.write(&there, b"x"), Err(broken));
        }
    });
}

#[test]
fn what_was_shut_down_neither_sends_nor_waits() {
    World::new().run(|user| {
        let [here, there] = pair(user, Manner::Stream, OpenFlags::empty());
        user.write(&here, b"last").unwrap();
        let socket: &Socket<Home> = here.special().unwrap();
        socket.shut_down(Rights::WRITE);
        assert_eq!(user.write(&here, b"x"), Err(Errno::EPIPE));
        assert_eq!(user.read(&there, 9).unwrap(), b"last");
        assert_eq!(user.read(&there, 9).unwrap(), b"");
        assert!(there.ready().contains(Ready::READ_HANG_UP));
        assert_eq!(user.write(&there, b"still"), Ok(5), "the other way is open");
        socket.shut_down(Rights::READ);
        assert_eq!(user.write(&there, b"no more"), Err(Errno::EPIPE));
    });
}
