//! The functions of the POP for tunnels, against each other and against every kind of refusal.
