//! Tokens: any text is read or refused, and what is read has that text only; no made-up token is
//! opened; what was sealed is opened with all that it held.
//!
//! Input: text of a token, or the bytes of one.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::OnceLock;

use anyrelay_core::keys::{Epochs, Secret};
use anyrelay_core::net::Family;
use anyrelay_core::time::UnixTime;
use anyrelay_core::tunnel::{PublicToken, Return, Token, TokenKeys};

const NOW: UnixTime = UnixTime::from_millis(1_795_341_988_025);

/// Runs one input.
pub fn run(input: &[u8]) {
    if let Ok(text) = std::str::from_utf8(input)
        && let Ok(token) = text.parse::<PublicToken>()
    {
        assert_eq!(token.to_string(), text);
    }
    for (family, keys) in [Family::V4, Family::V6].into_iter().zip(keys()) {
        if let Some(token) = Token::read(family, input) {
            let public = PublicToken { epoch: input[0], token };
            assert_eq!(public.to_string().parse(), Ok(public));
            for odd in [false, true] {
                assert!(keys.open(NOW, odd, &token).is_err());
            }
        }
        seal_and_open(family, keys, input);
    }
}

fn seal_and_open(family: Family, keys: &TokenKeys, input: &[u8]) {
    let Some((fields, _)) = input.split_first_chunk::<23>() else { return };
    let number = |at: usize| u16::from_be_bytes([fields[at], fields[at + 1]]);
    let ip: IpAddr = match family {
        Family::V4 => Ipv4Addr::new(fields[0], fields[1], fields[2], fields[3]).into(),
        Family::V6 => Ipv6Addr::from(*fields.first_chunk().unwrap()).into(),
    };
    let agent = SocketAddr::new(ip, number(16));
    let (base_high, tenant, pop) = (number(18), number(20), fields[22]);
    let sealed = keys.seal(NOW, agent, base_high, tenant, pop).unwrap();
    let holds = Return { agent, base_high, tenant, epoch: 0, pop };
    assert_eq!(keys.open(NOW, false, &sealed.token), Ok(holds));
}

fn keys() -> &'static [TokenKeys; 2] {
    static KEYS: OnceLock<[TokenKeys; 2]> = OnceLock::new();
    KEYS.get_or_init(|| {
        let epochs = Epochs::single(Secret::new([3; 32]));
        ["203.0.113.20:443", "[2001:db8::20]:443"]
            .map(|vip| TokenKeys::new(&epochs, vip.parse().unwrap()).unwrap())
    })
}
