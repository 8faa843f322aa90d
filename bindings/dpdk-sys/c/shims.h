/* The input of bindgen: DPDK's headers, the shims, and macros that bindgen cannot evaluate. */
#ifndef DPDK_SYS_SHIMS_H
#define DPDK_SYS_SHIMS_H

#include <rte_bus.h>
#include <rte_dev.h>
#include <rte_eal.h>
#include <rte_errno.h>
#include <rte_ethdev.h>
#include <rte_ip_frag.h>
#include <rte_lcore.h>
#include <rte_log.h>
#include <rte_mbuf.h>
#include <rte_mempool.h>
#include <rte_version.h>

/* rte_errno of the calling thread. */
int dpdk_shim_errno(void);
/* rte_lcore_id(): LCORE_ID_ANY in a thread without an lcore. */
unsigned int dpdk_shim_lcore_id(void);

/* rte_eth_rx_burst(), then a prefetch of each frame's first cache line. */
uint16_t dpdk_shim_rx_burst(uint16_t port, uint16_t queue, struct rte_mbuf **mbufs, uint16_t count);
/* rte_eth_tx_burst(). */
uint16_t dpdk_shim_tx_burst(uint16_t port, uint16_t queue, struct rte_mbuf **mbufs, uint16_t count);

/* rte_pktmbuf_alloc(): NULL when the pool is empty. */
struct rte_mbuf *dpdk_shim_mbuf_alloc(struct rte_mempool *pool);
/* rte_pktmbuf_alloc_bulk(): all of `count` and 0, or none and an error. */
int dpdk_shim_mbuf_alloc_bulk(struct rte_mempool *pool, struct rte_mbuf **mbufs,
	unsigned int count);
/* rte_pktmbuf_free(). */
void dpdk_shim_mbuf_free(struct rte_mbuf *mbuf);
/* rte_pktmbuf_linearize(): 0, or -1 without a change when the first segment has too little room. */
int dpdk_shim_mbuf_linearize(struct rte_mbuf *mbuf);
/* rte_ipv4_frag_reassemble_packet() and rte_ipv6_frag_reassemble_packet() of a fragment whose IP
 * header begins after `l2_len` bytes and whose payload after `l3_len` more. A complete datagram has
 * neither the checksum flags of its fragments nor the TX offloads that the library sets. */
struct rte_mbuf *dpdk_shim_reassemble_ipv4(struct rte_ip_frag_tbl *table,
	struct rte_ip_frag_death_row *row, struct rte_mbuf *mbuf, uint8_t l2_len, uint16_t l3_len,
	uint64_t now);
struct rte_mbuf *dpdk_shim_reassemble_ipv6(struct rte_ip_frag_tbl *table,
	struct rte_ip_frag_death_row *row, struct rte_mbuf *mbuf, uint8_t l2_len, uint16_t l3_len,
	uint64_t now);
/* Objects in the per-lcore caches of a pool. */
unsigned int dpdk_shim_mempool_cached(const struct rte_mempool *pool);

static const uint32_t DPDK_LCORE_ID_ANY = LCORE_ID_ANY;
static const uint32_t DPDK_FRAGMENTS_MAX = RTE_LIBRTE_IP_FRAG_MAX_FRAG;
static const uint16_t DPDK_MBUF_HEADROOM = RTE_PKTMBUF_HEADROOM;
static const uint32_t DPDK_MEMPOOL_CACHE_MAX = RTE_MEMPOOL_CACHE_MAX_SIZE;
static const uint64_t DPDK_RX_OFFLOAD_IPV4_CKSUM = RTE_ETH_RX_OFFLOAD_IPV4_CKSUM;
static const uint64_t DPDK_RX_OFFLOAD_TCP_CKSUM = RTE_ETH_RX_OFFLOAD_TCP_CKSUM;
static const uint64_t DPDK_RX_OFFLOAD_SCATTER = RTE_ETH_RX_OFFLOAD_SCATTER;
static const uint64_t DPDK_RX_OFFLOAD_RSS_HASH = RTE_ETH_RX_OFFLOAD_RSS_HASH;
static const uint64_t DPDK_RX_L4_CKSUM_MASK = RTE_MBUF_F_RX_L4_CKSUM_MASK;
static const uint64_t DPDK_RX_L4_CKSUM_BAD = RTE_MBUF_F_RX_L4_CKSUM_BAD;
static const uint64_t DPDK_RX_L4_CKSUM_GOOD = RTE_MBUF_F_RX_L4_CKSUM_GOOD;
static const uint64_t DPDK_RSS_IPV4 = RTE_ETH_RSS_IPV4 | RTE_ETH_RSS_FRAG_IPV4;
static const uint64_t DPDK_RSS_IPV6 = RTE_ETH_RSS_IPV6 | RTE_ETH_RSS_FRAG_IPV6;
static const uint64_t DPDK_RSS_TCP_IPV4 = RTE_ETH_RSS_NONFRAG_IPV4_TCP;
static const uint64_t DPDK_RSS_TCP_IPV6 = RTE_ETH_RSS_NONFRAG_IPV6_TCP;

#endif
