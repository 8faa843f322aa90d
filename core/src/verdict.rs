//! What the POP decided about a frame.
