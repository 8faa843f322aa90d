//! Tokens of many datagrams, opened side by side and one after the other.

use proptest::prelude::*;

use super::*;
use crate::tunnel::forward::{DataUp, MANY, OpenedTokens, open_all};

proptest! {
    #[test]
    fn tokens_open_alike_side_by_side_and_alone(
        sent in proptest::collection::vec(any::<(u8, u8, bool, u16, u8)>(), 0..=MANY),
        now in -20i64..20_000, one_family: bool, missing in prop_oneof![4 => Just(0), 1 => 0u8..3],
    ) {
        // Epoch 7 has expired at some of these times.
        let mut service = service_with(two_epochs(later(1)));
        let others = service_with(Epochs::single(Secret::new([3; 32])));
        let (a, b, c, d) = agents();
        let agents = [a, b, c, d];
        let now = later(now);
        let datagrams: Vec<DataUp> = sent.iter().map(|&(from, to, harmed, bit, maker)| {
            let count = if one_family { 2 } else { agents.len() };
            let (from, to) =
                (&agents[usize::from(from) % count], &agents[usize::from(to) % count]);
            let maker = if maker < 20 { &others } else { &service };
            let token = |agent: &TestAgent, late: bool| {
                let moment = if late { later(2) } else { NOW };
                let high = (agent.base >> 16) as u16;
                let tokens = &maker.vip(agent.family()).unwrap().tokens;
                tokens.seal(moment, agent.addr, high, agent.key.tenant, 5).unwrap()
            };
            let (own, to) = (token(from, bit & 1 == 0), token(to, bit & 2 == 0));
            let header = DataHeader {
                destination: to.token.family(),
                sender: own.token.family(),
                destination_odd: to.epoch % 2 == 1,
                sender_odd: own.epoch % 2 == 1,
                offset_steps: 0,
                channel: 0,
                session: 0,
            };
            let payload =
                [&header.write_up()[..], to.token.as_bytes(), own.token.as_bytes()].concat();
            let mut sent = from.segment(&service, payload);
            if harmed {
                let bit = usize::from(bit) % ((sent.payload.len() - 12) * 8);
                sent.payload[12 + bit / 8] ^= 1 << (bit % 8);
            }
            DataUp::read(&service, &sent.segment()).unwrap()
        }).collect();
        match missing {
            1 => service.vip4 = None,
            2 => service.vip6 = None,
            _ => {}
        }
        // Every third lane is of another service, and does not change.
        let lanes: Vec<u8> = (0..datagrams.len() as u8).filter(|lane| lane % 3 != 2).collect();
        let mut opened = vec![OpenedTokens::NOT; datagrams.len()];
        open_all(&service, now, &datagrams, &lanes, &mut opened);
        for (lane, (datagram, opened)) in datagrams.iter().zip(&opened).enumerate() {
            let expected = match lane % 3 {
                2 => OpenedTokens::NOT,
                _ => OpenedTokens::one(&service, now, datagram),
            };
            prop_assert_eq!(opened, &expected, "lane {}", lane);
        }
    }
}
