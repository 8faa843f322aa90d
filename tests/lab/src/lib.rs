//! anyrelay-lab.
