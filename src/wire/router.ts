/**
 * Finds the operation that a method and a raw path name, and cuts out the labels, still encoded.
 *
 * Routing is done on the raw segments: a studio id holds an encoded `:` and an ARN an encoded `/`, which must not split a
 * label. Labels are decoded once, by rest-json.ts, after the signature has been checked.
 */
import { API_PREFIX, type Operation } from '../contract/operation.ts';

export interface Route<H> {
  readonly operation: Operation;
  readonly handler: H;
  /** Names of the labels in the order of their segments. */
  readonly labelNames: readonly string[];
}

export interface Match<H> {
  readonly route: Route<H>;
  /** Raw label values in the order of `labelNames`. */
  readonly labels: readonly string[];
}

interface Node<H> {
  readonly literals: Literal<H>[];
  label: Node<H> | undefined;
  readonly routes: Map<string, Route<H>>;
}

interface Literal<H> {
  readonly segment: string;
  readonly node: Node<H>;
}

const newNode = <H>(): Node<H> => ({ literals: [], label: undefined, routes: new Map() });

/**
 * @param handlers by operation name. An operation without a handler, or a handler without an operation, is an error at
 *   start-up and not at the first call.
 */
export function createRouter<H>(operations: readonly Operation[], handlers: Readonly<Record<string, H>>) {
  const root = newNode<H>();
  for (const operation of operations) {
    const handler = handlers[operation.name];
    if (handler === undefined) throw new Error(`operation ${operation.name} has no handler`);
    add(root, operation, handler);
  }
  const unknown = Object.keys(handlers).filter((name) => !operations.some((operation) => operation.name === name));
  if (unknown.length > 0) throw new Error(`handlers without an operation: ${unknown.join(', ')}`);
  return { match: (method: string, path: string) => match(root, method, path) };
}

function add<H>(root: Node<H>, operation: Operation, handler: H): void {
  const labelNames: string[] = [];
  let node = root;
  for (const segment of segmentsOf(API_PREFIX + operation.uri)) {
    if (segment.startsWith('{')) {
      labelNames.push(segment.slice(1, -1));
      node.label ??= newNode();
      node = node.label;
    } else {
      let literal = node.literals.find((known) => known.segment === segment);
      if (!literal) {
        literal = { segment, node: newNode() };
        node.literals.push(literal);
      }
      node = literal.node;
    }
  }
  if (node.routes.has(operation.method)) throw new Error(`two operations at ${operation.method} ${operation.uri}`);
  node.routes.set(operation.method, { operation, handler, labelNames });
}

/** The segments of a path; one slash at the end is tolerated. */
function segmentsOf(path: string): string[] {
  return path.slice(1, endOf(path)).split('/');
}

function endOf(path: string): number {
  return path.endsWith('/') ? path.length - 1 : path.length;
}

/** Segments that signing normalises away: two paths that share a signature must not be two resources. */
function ambiguous(path: string, start: number, end: number): boolean {
  const length = end - start;
  if (length > 2) return false;
  return length === 0 || (path[start] === '.' && (length === 1 || path[start + 1] === '.'));
}

/** There are a dozen of them at most: compared in place, where a map would have to be asked with a segment cut out. */
function literalAt<H>(literals: readonly Literal<H>[], path: string, start: number, end: number) {
  for (const literal of literals) {
    if (literal.segment.length === end - start && path.startsWith(literal.segment, start)) return literal.node;
  }
  return undefined;
}

/** Goes along the path instead of splitting it: every request comes this way. */
function match<H>(root: Node<H>, method: string, path: string): Match<H> | undefined {
  if (!path.startsWith('/')) return undefined;
  const pathEnd = endOf(path);
  let node = root;
  const labels: string[] = [];
  for (let start = 1, end = 0; end < pathEnd; start = end + 1) {
    end = path.indexOf('/', start);
    if (end < 0 || end > pathEnd) end = pathEnd;
    const literal = literalAt(node.literals, path, start, end);
    if (literal) {
      node = literal;
    } else if (node.label && !ambiguous(path, start, end)) {
      labels.push(path.slice(start, end));
      node = node.label;
    } else {
      return undefined;
    }
  }
  const route = node.routes.get(method);
  return route && { route, labels };
}
