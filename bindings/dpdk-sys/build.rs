//! Generates the FFI and compiles the shims against the DPDK that `pkg-config libdpdk` names.

use std::env;
use std::error::Error;
use std::path::PathBuf;
use std::process::Command;

/// The libraries that the safe layer calls. EAL loads the drivers at run time.
const LIBRARIES: &[&str] =
    &["rte_ip_frag", "rte_ethdev", "rte_mbuf", "rte_mempool", "rte_ring", "rte_eal"];

const FUNCTIONS: &[&str] = &[
    "dpdk_shim_.*",
    "rte_eal_(init|cleanup)",
    "rte_openlog_stream",
    "rte_strerror",
    "rte_version",
    "rte_thread_(un)?register",
    "rte_socket_id",
    "rte_dev_(probe|remove)",
    "rte_dev_event_callback_(un)?register",
    "rte_pktmbuf_(pool_create|free_bulk)",
    "rte_mempool_(free|avail_count)",
    "rte_eth_dev_(configure|start|stop|close|info_get|socket_id|get_port_by_name)",
    "rte_eth_dev_(adjust_nb_rx_tx_desc|default_mac_addr_set|(rx|tx)_offload_name)",
    "rte_eth_dev_(get_mtu|is_valid_port|set_mc_addr_list)",
    "rte_eth_allmulticast_(enable|disable)",
    "rte_eth_(rx|tx)_queue_setup",
    "rte_eth_macaddr_get",
    "rte_eth_promiscuous_(enable|disable|get)",
    "rte_eth_link_get_nowait",
    "rte_eth_stats_(get|reset)",
    "rte_eth_xstats_(get|get_names)",
    "rte_eth_find_next_of",
    "rte_ip_frag_table_(create|destroy|statistics_dump)",
    "rte_ip_frag_table_del_expired_entries",
    "rte_ipv(4|6)_frag_reassemble_packet",
    "rte_ipv(4|6)_fragment_packet",
    "rte_ip_frag_free_death_row",
];

const VALUES: &[&str] = &[
    "DPDK_.*",
    "RTE_IP_FRAG_DEATH_ROW_LEN",
    "RTE_MAX_ETHPORTS",
    "RTE_ETH_MQ_RX_.*",
    "RTE_ETH_LINK_UP",
    "RTE_DEV_EVENT_REMOVE",
    "stderr",
];

/// Packed structs inside aligned ones, which Rust cannot express; nothing reads them.
const OPAQUE: &[&str] =
    &["rte_arp_hdr", "rte_arp_ipv4", "rte_gtp_psc_generic_hdr", "rte_l2tpv2_combined_msg_hdr"];

fn main() -> Result<(), Box<dyn Error>> {
    for path in ["build.rs", "c/shims.h", "c/shims.c"] {
        println!("cargo::rerun-if-changed={path}");
    }
    for variable in ["PKG_CONFIG", "PKG_CONFIG_PATH", "LIBCLANG_PATH"] {
        println!("cargo::rerun-if-env-changed={variable}");
    }
    let flags = pkg_config("--cflags")?;
    compile_shims(&flags);
    generate_bindings(&flags)?;
    link()
}

/// The words that `pkg-config OPTION libdpdk` prints.
fn pkg_config(option: &str) -> Result<Vec<String>, Box<dyn Error>> {
    let program = env::var("PKG_CONFIG").unwrap_or_else(|_| "pkg-config".to_owned());
    let output = Command::new(&program)
        .args([option, "libdpdk >= 22.11", "libdpdk < 22.12"])
        .output()
        .map_err(|error| format!("{program}: {error} (Debian: apt-get install pkg-config)"))?;
    if !output.status.success() {
        let text = String::from_utf8_lossy(&output.stderr);
        return Err(format!(
            "DPDK 22.11 not found (Debian: apt-get install libdpdk-dev): {}",
            text.trim()
        )
        .into());
    }
    Ok(String::from_utf8(output.stdout)?.split_whitespace().map(str::to_owned).collect())
}

fn compile_shims(flags: &[String]) {
    let mut build = cc::Build::new();
    // Always optimised: the shims are the packet path, and inline code of DPDK's headers.
    build.file("c/shims.c").opt_level(3).debug(false).warnings(false).std("gnu11");
    for flag in flags {
        build.flag(flag);
    }
    build.compile("dpdk_shims");
}

fn generate_bindings(flags: &[String]) -> Result<(), Box<dyn Error>> {
    let mut builder = bindgen::Builder::default()
        .header("c/shims.h")
        .clang_args(flags)
        .use_core()
        .generate_comments(false)
        .derive_debug(false)
        .derive_default(false)
        .prepend_enum_name(false)
        .layout_tests(true);
    for name in FUNCTIONS {
        builder = builder.allowlist_function(name);
    }
    for name in VALUES {
        builder = builder.allowlist_var(name);
    }
    for name in OPAQUE {
        builder = builder.opaque_type(name);
    }
    let out = PathBuf::from(env::var("OUT_DIR")?).join("bindings.rs");
    builder.generate()?.write_to_file(out)?;
    Ok(())
}

fn link() -> Result<(), Box<dyn Error>> {
    for word in pkg_config("--libs")? {
        if let Some(folder) = word.strip_prefix("-L") {
            println!("cargo::rustc-link-search=native={folder}");
        }
    }
    for library in LIBRARIES {
        println!("cargo::rustc-link-lib=dylib={library}");
    }
    Ok(())
}
