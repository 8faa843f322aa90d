/* C bodies for DPDK's static inline functions. One call here handles a whole burst, so that the
 * price of leaving Rust is paid once per burst and not once per frame. */
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

unsigned int dpdk_shim_mempool_cached(const struct rte_mempool *pool)
{
	unsigned int cached = 0;

	if (pool->cache_size == 0)
		return 0;
	for (unsigned int lcore = 0; lcore < RTE_MAX_LCORE; lcore++)
		cached += pool->local_cache[lcore].len;
	return cached;
}
