/** Ctrl-C ends a long command in order, so that nothing is left behind. */
export function stopSignal(): { signal: AbortSignal; release: () => void } {
  const controller = new AbortController();
  const stop = () => controller.abort();
  process.once('SIGINT', stop).once('SIGTERM', stop);
  const release = () => void process.off('SIGINT', stop).off('SIGTERM', stop);
  return { signal: controller.signal, release };
}
