//! Refusals of targets: how many clients hear of them, and that POPs that lack one of the rules for
//! them are noticed.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use anyrelay_sim::{Options, Rule, Sabotage, run};

/// Runs POPs without `rule` until a run fails with one of these words, judged by all that there is
/// or by the hosts alone.
fn noticed(rule: Rule, only_hosts_judge: bool, words: &[&str], most: u64) {
    let sabotage = Some(Sabotage::Without(rule));
    let options = Options { sabotage, only_hosts_judge, record: false };
    for seed in 1..=most {
        let failure = run(seed, &options).failure;
        if let Some(failure) = failure.filter(|text| words.iter().any(|word| text.contains(word))) {
            return println!("without {rule:?}, seed {seed} fails {failure}");
        }
    }
    panic!("none of {most} seeds shows that {rule:?} is missing");
}

macro_rules! rules {
    ($($name:ident = $rule:ident, $words:ident, $most:literal;)+) => {
        $(#[test] fn $name() { noticed(Rule::$rule, false, &$words, $most); })+
    };
}

rules! {
    a_rst_for_another_end_than_the_syns_is_noticed = SynEnd, NO_SYN, 400;
    a_refusal_by_another_target_is_noticed = SynTarget, NO_SYN, 400;
    a_syn_that_is_refused_twice_is_noticed = SynOnce, NO_SYN, 400;
    a_refusal_of_an_older_syn_is_noticed = SynLast, NO_SYN, 400;
    a_syn_that_is_remembered_for_ever_is_noticed = SynLifetime, NO_SYN, 400;
    a_rst_for_another_end_is_noticed = RstEnd, NO_RST, 400;
    a_rst_for_another_acknowledgment_is_noticed = RstAck, KEPT, 400;
    a_rst_with_another_number_is_noticed = RstSeq, NO_RST, 400;
    a_rst_of_another_target_is_noticed = RstTarget, NO_RST, 400;
    a_rst_that_is_told_twice_is_noticed = RstOnce, NO_RST, 400;
    a_rst_that_waits_for_ever_is_noticed = RstLifetime, NO_RST, 400;
    what_is_known_of_targets_is_kept_over_a_syn = SynClears, KEPT, 400;
    a_refusal_of_any_segment_is_noticed = Near, WRONG_TARGETS, 400;
    a_client_that_is_told_at_the_first_refusal_is_noticed = Every, NO_RST, 400;
    a_client_that_is_told_before_one_more_target_was_asked_is_noticed = NextAsked, NO_RST, 400;
    a_pop_that_asks_the_winner_of_now_alone_is_noticed = Candidates, WRONG_TARGETS, 400;
    an_owner_with_another_tag_is_noticed = OwnerTag, WRONG_TARGETS, 400;
    an_owner_of_numbers_that_are_far_is_noticed = OwnerStage, WRONG_TARGETS, 400;
    an_owner_before_the_last_syn_is_noticed = OwnerSyn, WRONG_TARGETS, 400;
    an_answer_to_a_clients_rst_is_noticed = ClientRst, FOR_RST, 400;
    a_damaged_rst_that_is_believed_is_noticed = DamagedRst, DAMAGED_RST, 400;
    a_damaged_segment_that_is_answered_is_noticed = DamagedSegment, DAMAGED_SEGMENT, 400;
    a_hint_of_a_stranger_is_noticed = HintMac, STRANGE_HINT, 400;
    a_late_hint_is_noticed = HintTime, STRANGE_HINT, 400;
    a_hint_that_is_hinted_again_is_noticed = HintOnce, HINTED_AGAIN, 400;
}

const NO_SYN: [&str; 1] = ["a RST that is no answer to the last SYN"];
const WRONG_TARGETS: [&str; 1] = ["not to the targets that it must go to"];
const KEPT: [&str; 2] = [WRONG_TARGETS[0], NO_RST[0]];
const NO_RST: [&str; 2] =
    ["a RST that is no answer of the target's", "a RST that does not answer the segment"];
const FOR_RST: [&str; 2] = ["a RST is wrong, or for a RST", WRONG_TARGETS[0]];
const DAMAGED_RST: [&str; 2] = ["a damaged RST is believed", "a damaged RST is remembered"];
const DAMAGED_SEGMENT: [&str; 1] = ["a damaged segment is answered"];
const STRANGE_HINT: [&str; 2] =
    ["a RST that is no answer of the target's", "because of a hint that must not be accepted"];
const HINTED_AGAIN: [&str; 1] = ["a hint is hinted again"];

/// Connections break, or never end.
#[test]
fn hosts_alone_notice_a_pop_that_asks_the_winner_of_now_alone() {
    noticed(Rule::Candidates, true, &["was reset", "is not over"], 100);
}

#[test]
fn hosts_alone_notice_clients_that_are_told_at_the_first_refusal() {
    noticed(Rule::Every, true, &["the client was reset"], 400);
}

/// A RST with the number of a live connection breaks it, and the hosts need nobody to see that.
#[test]
fn hosts_alone_notice_a_hint_of_a_stranger() {
    noticed(Rule::HintMac, true, &["the client was reset"], 100);
}
