//! Tokens: their contents and their text.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use proptest::prelude::*;

use super::*;
use crate::tunnel::token::{ParseTokenError, TokenError};
use crate::tunnel::{Return, Token, TokenKeys};

fn keys(vip: &str, epochs: &Epochs) -> TokenKeys {
    TokenKeys::new(epochs, addr(vip)).unwrap()
}

const VIPS: [&str; 2] = ["203.0.113.20:443", "[2001:db8::20]:443"];

proptest! {
    #[test]
    fn open_is_the_inverse_of_seal(
        ip4: u32, ip6: u128, port: u16, base_high: u16, tenant: u16, pop: u8, later: bool,
    ) {
        let epochs = two_epochs(NOW);
        let now = if later { NOW } else { UnixTime::from_millis(NOW.as_millis() - 1) };
        let epoch = if later { 8 } else { 7 };
        let ips: [IpAddr; 2] =
            [Ipv4Addr::from_bits(ip4).into(), Ipv6Addr::from_bits(ip6).into()];
        for (vip, ip) in VIPS.iter().zip(ips) {
            let keys = keys(vip, &epochs);
            let agent = SocketAddr::new(ip, port);
            let sealed = keys.seal(now, agent, base_high, tenant, pop).unwrap();
            prop_assert_eq!(sealed.epoch, epoch);
            let holds = Return { agent, base_high, tenant, epoch, pop };
            prop_assert_eq!(keys.open(now, !later, &sealed.token), Ok(holds));
            prop_assert_eq!(keys.open(now, later, &sealed.token), Err(TokenError::Forged));
            prop_assert_eq!(sealed.to_string().parse(), Ok(sealed));
        }
    }

    #[test]
    fn made_up_tokens_are_not_opened(short: [u8; 16], long: [u8; 32], odd: bool) {
        let epochs = two_epochs(NOW);
        for vip in VIPS {
            let keys = keys(vip, &epochs);
            for token in [Token::V4(short), Token::V6(long)] {
                prop_assert_eq!(keys.open(NOW, odd, &token), Err(TokenError::Forged));
            }
        }
    }

    #[test]
    fn any_text_is_read_or_refused(text in "\\PC*|[A-Za-z0-9_-]{20,50}") {
        // A token has one text only.
        if let Ok(token) = text.parse::<PublicToken>() {
            prop_assert_eq!(token.to_string(), text);
        }
    }
}

#[test]
fn a_family_has_its_own_tokens() {
    let epochs = Epochs::single(Secret::new([3; 32]));
    let (v4, v6) = (keys(VIPS[0], &epochs), keys(VIPS[1], &epochs));
    assert_eq!(v4.seal(NOW, addr("[2001:db8::1]:1"), 0, 0, 0), None);
    assert_eq!(v6.seal(NOW, addr("192.0.2.1:1"), 0, 0, 0), None);
}

#[test]
fn every_token_differs() {
    let epochs = Epochs::single(Secret::new([3; 32]));
    let (v4, v6) = (keys(VIPS[0], &epochs), keys(VIPS[1], &epochs));
    let mut seen = std::collections::HashSet::new();
    for pop in 0..=255 {
        seen.insert(v4.seal(NOW, addr("192.0.2.1:1"), 0, 0, pop).unwrap());
        seen.insert(v6.seal(NOW, addr("[2001:db8::1]:1"), 0, 0, pop).unwrap());
    }
    assert_eq!(seen.len(), 512);
}

#[test]
fn texts_that_are_no_tokens_have_a_reason() {
    // As in RFC 4648, section 10.
    let short = PublicToken { epoch: 0xfb, token: Token::V4([0xff; 16]) }.to_string();
    assert_eq!(short, "-_______________________"[..22].to_owned() + "8");
    let long = PublicToken { epoch: 0, token: Token::V6([0; 32]) }.to_string();
    assert_eq!(long, "A".repeat(44));
    let parse = |text: &str| text.parse::<PublicToken>();
    for text in ["", "A", &short[..22], &format!("{short}A"), &long[..43], &format!("{long}A")] {
        assert_eq!(parse(text), Err(ParseTokenError::Length), "{text}");
    }
    assert_eq!(parse(&"A".repeat(10_000)), Err(ParseTokenError::Length));
    // Digits of other base64; padding; remaining bits.
    let last = short[..22].to_owned() + "9";
    for text in [&short.replace('_', "/"), &format!("{short}="), &format!(" {long}"), &last] {
        assert_eq!(parse(text), Err(ParseTokenError::Digit), "{text}");
    }
}
