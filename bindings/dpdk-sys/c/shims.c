/* C bodies for DPDK's static inline functions. One call handles a whole burst, so that the cost of
 * a call from Rust to C arises once per burst and not once per frame. */
#include "shims.h"

int dpdk_shim_errno(void)
{
	return rte_errno;
}

unsigned int dpdk_shim_lcore_id(void)
{
	return rte_lcore_id();
}

uint16_t dpdk_shim_rx_burst(uint16_t port, uint16_t queue, struct rte_mbuf **mbufs, uint16_t count)
{
	uint16_t received = rte_eth_rx_burst(port, queue, mbufs, count);

	for (uint16_t i = 0; i < received; i++)
		rte_prefetch0(rte_pktmbuf_mtod(mbufs[i], void *));
	return received;
}

uint16_t dpdk_shim_tx_burst(uint16_t port, uint16_t queue, struct rte_mbuf **mbufs, uint16_t count)
{
	return rte_eth_tx_burst(port, queue, mbufs, count);
}

struct rte_mbuf *dpdk_shim_mbuf_alloc(struct rte_mempool *pool)
{
	return rte_pktmbuf_alloc(pool);
}

int dpdk_shim_mbuf_alloc_bulk(struct rte_mempool *pool, struct rte_mbuf **mbufs, unsigned int count)
{
	return rte_pktmbuf_alloc_bulk(pool, mbufs, count);
}

void dpdk_shim_mbuf_free(struct rte_mbuf *mbuf)
{
	rte_pktmbuf_free(mbuf);
}

int dpdk_shim_mbuf_linearize(struct rte_mbuf *mbuf)
{
	return rte_pktmbuf_linearize(mbuf);
}

static struct rte_mbuf *cleaned(struct rte_mbuf *mbuf)
{
	if (mbuf != NULL) {
		mbuf->ol_flags &= ~(RTE_MBUF_F_TX_IP_CKSUM | RTE_MBUF_F_TX_IPV4 |
			RTE_MBUF_F_RX_IP_CKSUM_MASK | RTE_MBUF_F_RX_L4_CKSUM_MASK);
		mbuf->tx_offload = 0;
	}
	return mbuf;
}

struct rte_mbuf *dpdk_shim_reassemble_ipv4(struct rte_ip_frag_tbl *table,
	struct rte_ip_frag_death_row *row, struct rte_mbuf *mbuf, uint8_t l2_len, uint16_t l3_len,
	uint64_t now)
{
	struct rte_ipv4_hdr *ip = rte_pktmbuf_mtod_offset(mbuf, struct rte_ipv4_hdr *, l2_len);

	mbuf->l2_len = l2_len;
	mbuf->l3_len = l3_len;
	return cleaned(rte_ipv4_frag_reassemble_packet(table, row, mbuf, now, ip));
}

struct rte_mbuf *dpdk_shim_reassemble_ipv6(struct rte_ip_frag_tbl *table,
	struct rte_ip_frag_death_row *row, struct rte_mbuf *mbuf, uint8_t l2_len, uint16_t l3_len,
	uint64_t now)
{
	struct rte_ipv6_hdr *ip = rte_pktmbuf_mtod_offset(mbuf, struct rte_ipv6_hdr *, l2_len);

	mbuf->l2_len = l2_len;
	mbuf->l3_len = l3_len;
	return cleaned(rte_ipv6_frag_reassemble_packet(table, row, mbuf, now, ip,
		(struct rte_ipv6_fragment_ext *)(ip + 1)));
}

unsigned int dpdk_shim_mempool_cached(const struct rte_mempool *pool)
{
	unsigned int cached = 0;

	if (pool->cache_size == 0)
		return 0;
	for (unsigned int lcore = 0; lcore < RTE_MAX_LCORE; lcore++)
		cached += pool->local_cache[lcore].len;
	return cached;
}
