//! dpdk.
