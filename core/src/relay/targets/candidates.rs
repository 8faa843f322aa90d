//! Targets of a service as small numbers, and sets of them.

/// A target's place among all of its service, below [`MAX_TARGETS`](crate::config::MAX_TARGETS).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct TargetIndex(pub u8);

/// The place of a target's counters among those of its service, below
/// [`MAX_TARGETS`](crate::config::MAX_TARGETS): kept by its address and port over reloads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct TargetSlot(pub u8);

/// Targets of one service.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Candidates(u64);

impl Candidates {
    /// One target.
    #[inline(always)]
    pub fn only(target: TargetIndex) -> Self {
        Candidates(1 << (target.0 & 63))
    }

    /// How many there are.
    #[inline(always)]
    pub fn len(self) -> u32 {
        self.0.count_ones()
    }

    /// Whether there is none.
    #[inline(always)]
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Whether `target` is one of them.
    #[inline(always)]
    pub fn has(self, target: TargetIndex) -> bool {
        self.0 & Candidates::only(target).0 != 0
    }

    /// These and those.
    #[inline(always)]
    #[must_use]
    pub fn and(self, other: Candidates) -> Self {
        Candidates(self.0 | other.0)
    }

    /// These without those.
    #[inline(always)]
    #[must_use]
    pub fn without(self, other: Candidates) -> Self {
        Candidates(self.0 & !other.0)
    }

    /// The first of them.
    #[inline(always)]
    pub fn first(self) -> Option<TargetIndex> {
        (!self.is_empty()).then(|| TargetIndex(self.0.trailing_zeros() as u8))
    }

    /// Each of them, ascending.
    pub fn iter(self) -> impl Iterator<Item = TargetIndex> {
        let mut left = self;
        std::iter::from_fn(move || {
            let first = left.first()?;
            left = left.without(Candidates::only(first));
            Some(first)
        })
    }
}

/// What is chosen for a client at a time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Chosen {
    /// The target of a new connection.
    pub new: Option<TargetIndex>,
    /// Where any other segment may have to go.
    pub candidates: Candidates,
}
