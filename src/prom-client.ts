/**
 * The parts of prom-client that metrics are made with, each from its own file. The package's entry would load much more
 * that nobody here uses (metrics of Node itself, a push gateway), and every start would wait for it.
 */
import { createRequire } from 'node:module';

type PromClient = typeof import('prom-client');

const require = createRequire(import.meta.url);

export const Counter = require('prom-client/lib/counter.js') as PromClient['Counter'];
export const Gauge = require('prom-client/lib/gauge.js') as PromClient['Gauge'];
export const Histogram = require('prom-client/lib/histogram.js') as PromClient['Histogram'];
export const Registry = require('prom-client/lib/registry.js') as PromClient['Registry'];
export type { Metric, Registry as MetricRegistry } from 'prom-client';
