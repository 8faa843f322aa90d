//! Rules for segments of pool mode, where a client's tag travels in the timestamps.

use anyrelay_kit::frames::{ACK, SYN};

use super::{Checked, Passed, require};
use crate::setup::is_egress;
use crate::wire::SegmentView;

/// Towards a target; gives back the tag.
pub(super) fn check_up(passed: &Passed<'_>) -> Result<u32, String> {
    let Passed { from, to, damaged, .. } = passed;
    require(is_egress(passed.mode(), to.src.ip()), "from no egress address")?;
    require(to.src.port() >= 1024, "from a low port")?;
    let (value, echo) = to.timestamps().ok_or("to a target without its tag")?;
    let wanted = from.timestamps().map_or(0, |(_, echo)| echo);
    require(echo == wanted, "wrong TSecr towards a target")?;
    let bare = from.timestamps().is_none();
    let (tag, low) = (value >> 1, value & 1);
    require((low == 0) == (bare && from.has(SYN)), "the low bit of TSval is wrong")?;
    require(tag != 0, "the tag is 0")?;
    let r = u64::from(tag - 1) * 64_512 + u64::from(to.src.port()) - 1024;
    require(r < 1 << 46, "the tag is none of the mapping's")?;
    if !bare {
        require(to.options.len() == from.options.len(), "the options have another length")?;
        return check_others(from, to, *damaged).map(|()| tag);
    }
    require(to.options.starts_with(&[1, 1, 8, 10]), "timestamps are not in front")?;
    if from.options.len() <= 28 {
        require(to.options.len() == from.options.len() + 12, "not 12 bytes more")?;
        check_others(from, to, *damaged)?;
    }
    Ok(tag)
}

/// Towards a client; gives back the tag, and by how much the MSS is to be less.
pub(super) fn check_down(passed: &Passed<'_>) -> Result<(u32, u16), String> {
    let Passed { from, to, damaged, .. } = passed;
    let (value, echo) = from.timestamps().ok_or("mapped without a tag")?;
    let tag = echo >> 1;
    if !from.has(SYN | ACK) || echo & 1 == 1 {
        require(to.timestamps() == Some((value, 0)), "timestamps are lost, or a tag leaks")?;
        require(to.options.len() == from.options.len(), "the options have another length")?;
        return check_others(from, to, *damaged).map(|()| (tag, 0));
    }
    require(to.timestamps().is_none(), "timestamps that were not asked for")?;
    let others = others(from).map(|(_, value)| 2 + value.len()).sum::<usize>();
    let len = match from.options.starts_with(&[1, 1, 8, 10]) {
        true => from.options.len() - 12,
        false => others.next_multiple_of(4),
    };
    require(*damaged || to.options.len() == len, "the options have another length")?;
    Ok((tag, 12))
}

/// Options beside timestamps pass a POP, but those of SYNs, which have rules of their own.
fn check_others(from: &SegmentView<'_>, to: &SegmentView<'_>, damaged: bool) -> Checked {
    let same = damaged || from.has(SYN) || others(from).eq(others(to));
    require(same, "options are changed")
}

fn others<'a>(of: &SegmentView<'a>) -> impl Iterator<Item = (u8, &'a [u8])> {
    of.options().flatten().filter(|option| option.0 != 8)
}
