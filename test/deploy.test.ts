/**
 * The files in deploy/ and what docs/deploy.md says: they are read by the tools that they are for, as far as a machine has
 * these, and they name nothing that there is not.
 */
import assert from 'node:assert/strict';
import { execFileSync, spawnSync } from 'node:child_process';
import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { describe, it } from 'node:test';
import { commands } from '../src/cli/index.ts';
import { SETTINGS } from '../src/settings.ts';
import { temporaryDirectory } from './support/temporary.ts';

const PROJECT = resolve(import.meta.dirname, '..');
const read = (file: string) => readFileSync(join(PROJECT, file), 'utf8');
const filesIn = (directory: string, end = '') =>
  readdirSync(join(PROJECT, directory)).flatMap((name) => (name.endsWith(end) ? `${directory}/${name}` : []));

describe('what is written for administrators', () => {
  const written = [...filesIn('deploy'), ...filesIn('docs', '.md'), 'README.md'];

  it('names settings that there are', () => {
    const known = new Set(Object.values(SETTINGS).map(({ env }) => env));
    for (const file of written)
      for (const [name] of read(file).matchAll(/BACKLOT_[A-Z0-9_]*[A-Z0-9]/g))
        assert.ok(known.has(name), `${file}: ${name}`);
  });

  it('names commands that there are', () => {
    const known = new Set(commands.flatMap(({ name }) => [name, name.split(' ')[0]!]));
    for (const file of written) {
      for (const [, word] of read(file).matchAll(/(?:npx |bin\/)backlot ([a-z][a-z-]+)/g))
        assert.ok(known.has(word!), `${file}: backlot ${word}`);
    }
  });

  it('names metrics that there are', () => {
    const names = new Set([...read('src/metrics.ts').matchAll(/'(backlot_\w+)'/g)].map(([, name]) => name!));
    const named = [...read('docs/deploy.md').matchAll(/`(backlot_\w+?)(?:_bucket|_count|_sum)?[{`]/g)];
    for (const [, name] of named) assert.ok(names.has(name!), name!);
    assert.deepEqual(new Set(named.map(([, name]) => name!)), names, 'each of them is explained');
  });

  it('names files that there are', () => {
    for (const [path] of read('docs/deploy.md').matchAll(/\bdeploy\/[\w.]+\w/g))
      assert.ok(existsSync(join(PROJECT, path)) || path === 'deploy.md', path);
    for (const file of filesIn('deploy')) assert.ok(read('docs/deploy.md').includes(file), `${file} is not explained`);
  });
});

describe('deploy/backlot.service', () => {
  const unit = read('deploy/backlot.service');
  const values = (name: string) => [...unit.matchAll(new RegExp(`^${name}=(.*)$`, 'gm'))].map(([, value]) => value!);

  it('is accepted by systemd, where that is installed', (t) => {
    if (!existsSync('/usr/bin/systemd-analyze')) return t.diagnostic('there is no systemd-analyze here');
    const here = join(temporaryDirectory(t), 'backlot.service');
    writeFileSync(here, unit.replaceAll('/opt/backlot', PROJECT));
    const { status, stderr } = spawnSync('systemd-analyze', ['verify', '--man=no', here], { encoding: 'utf8' });
    assert.deepEqual([status, stderr.split('\n').filter((line) => line.includes('backlot.service'))], [0, []]);
  });

  it('allows the system calls that the confined tools need to give up rights', (t) => {
    const [filter] = values('SystemCallFilter');
    if (!existsSync('/usr/bin/systemd-analyze')) return t.diagnostic('there is no systemd-analyze here');
    const callsOf = (set: string): string[] =>
      execFileSync('systemd-analyze', ['--no-pager', 'syscall-filter', set], { encoding: 'utf8' })
        .split('\n')
        .slice(1)
        .map((line) => line.trim())
        .flatMap((word) => (word.startsWith('@') ? callsOf(word) : word));
    const allowed = new Set(callsOf(filter!));
    for (const call of [
      'prctl',
      'capset',
      'prlimit64',
      'setpgid',
      'setsid',
      'kill',
      'fchmod',
      'fchown',
      'linkat',
      'fsync',
    ])
      assert.ok(allowed.has(call), call);
  });

  it('runs as a user of its own that gains nothing, and leaves JavaScript its compiler', () => {
    assert.deepEqual(
      [values('User'), values('NoNewPrivileges'), values('ProtectSystem')],
      [['backlot'], ['yes'], ['strict']],
    );
    assert.deepEqual(values('MemoryDenyWriteExecute'), []);
    assert.deepEqual([values('DevicePolicy'), values('DeviceAllow')], [['closed'], ['/dev/kvm rw']]);
    assert.deepEqual(values('KillMode'), ['process'], 'workstations outlive the server');
    assert.deepEqual(values('Environment'), [`${SETTINGS.dataDir.env}=/var/lib/${values('StateDirectory')[0]}`]);
    assert.ok(Number(values('LimitNOFILE')[0]) > Number(SETTINGS.connectionsMax.default));
  });
});

describe('deploy/Dockerfile', () => {
  const file = read('deploy/Dockerfile');
  const instruction = (name: string) =>
    [...file.replaceAll(/\\\n/g, '').matchAll(new RegExp(`^${name} (.*)$`, 'gm'))].map(([, words]) => words!);

  it("sets up by the README's own command", () => {
    const [setUp] = /^npm run setup\b/m.exec(read('README.md'))!;
    assert.ok(instruction('RUN')[0]!.startsWith(`${setUp} -- --product `), instruction('RUN')[0]!);
  });

  it('copies what the program is, and that is there', () => {
    const copied = instruction('COPY').flatMap((words) => words.split(' ').slice(0, -1));
    for (const name of copied) assert.ok(existsSync(join(PROJECT, name)), name);
    for (const name of ['package.json', 'package-lock.json', 'bin', 'src', 'scripts'])
      assert.ok(copied.includes(name), name);
  });

  it('runs as an ordinary user, looks after itself, and serves', () => {
    assert.deepEqual(instruction('USER'), ['10001:10001']);
    assert.match(instruction('HEALTHCHECK')[0]!, /http:\/\/127\.0\.0\.1:8642\/healthz/);
    assert.ok(instruction('ENV').includes(`${SETTINGS.port.env}=${SETTINGS.port.default}`));
    assert.deepEqual([instruction('EXPOSE'), instruction('VOLUME')], [[SETTINGS.port.default], ['/data']]);
    assert.deepEqual(instruction('ENTRYPOINT'), ['["/opt/backlot/bin/backlot"]']);
    assert.deepEqual(instruction('CMD'), ['["serve"]']);
  });

  it('has a health check that tells a server from none', async () => {
    const words = JSON.parse(/CMD (\[.*\])$/.exec(instruction('HEALTHCHECK')[0]!)![1]!) as string[];
    // Nobody listens on port 1.
    const { status } = spawnSync(process.execPath, [words[1]!, words[2]!.replace(':8642', ':1')]);
    assert.deepEqual([words[0], status], ['node', 1]);
  });
});

interface Manifest {
  readonly kind: string;
  readonly metadata: { readonly name: string };
  readonly spec: Record<string, never>;
}

describe('deploy/kubernetes.yaml', () => {
  // Debian's AWS CLI brings a parser of YAML.
  const parse =
    'import json, sys; from ruamel.yaml import YAML; print(json.dumps(list(YAML(typ="safe").load_all(sys.stdin))))';
  const manifests = JSON.parse(
    execFileSync('/usr/bin/python3', ['-c', parse], { input: read('deploy/kubernetes.yaml'), encoding: 'utf8' }),
  ) as Manifest[];
  // biome-ignore lint/suspicious/noExplicitAny: the shapes are Kubernetes' own
  const find = (kind: string): any => manifests.find((manifest) => manifest.kind === kind);
  const { spec } = find('Deployment');
  const pod = spec.template.spec;
  const [server] = pod.containers;

  it('has a volume, servers and a service that know each other', () => {
    assert.deepEqual(
      manifests.map(({ kind, metadata }) => [kind, metadata.name]),
      [
        ['PersistentVolumeClaim', 'backlot'],
        ['Deployment', 'backlot'],
        ['Service', 'backlot'],
      ],
    );
    assert.deepEqual(find('Service').spec.selector, spec.template.metadata.labels);
    assert.equal(find('Service').spec.ports[0].targetPort, server.ports[0].name);
    assert.equal(String(server.ports[0].containerPort), SETTINGS.port.default);
    const volumes = new Set(pod.volumes.map(({ name }: { name: string }) => name));
    for (const container of [server, ...pod.initContainers])
      for (const { name } of container.volumeMounts) assert.ok(volumes.has(name), name);
  });

  it('ends all servers of one version before the next begins, and gives each time to stop', () => {
    assert.equal(spec.strategy.type, 'Recreate');
    assert.ok(spec.replicas > 1 && pod.terminationGracePeriodSeconds > 8);
  });

  it('asks what there is to ask', () => {
    assert.deepEqual(
      ['startupProbe', 'livenessProbe', 'readinessProbe'].map((probe) => server[probe].httpGet.path),
      ['/healthz', '/healthz', '/readyz'],
    );
    for (const path of ['/healthz', '/readyz']) assert.ok(read('src/service.ts').includes(`'GET ${path}'`), path);
  });

  it('runs as the ordinary user of the image, and keeps secrets out of the command line', () => {
    assert.equal(server.securityContext.runAsNonRoot, true);
    assert.ok(read('deploy/Dockerfile').includes(`USER ${server.securityContext.runAsUser}:`));
    assert.equal(pod.securityContext?.fsGroup, undefined);
    const { valueFrom } = server.env.find(({ name }: { name: string }) => name === SETTINGS.databaseUrl.env);
    assert.deepEqual(Object.keys(valueFrom), ['secretKeyRef']);
  });

  it('prepares places that a server takes, with the root key of the secret', (t) => {
    const place = temporaryDirectory(t);
    writeFileSync(join(place, 'secret.key'), Buffer.alloc(32, 7));
    const script = (pod.initContainers[0].command[2] as string)
      .replaceAll('/secret/root.key', join(place, 'secret.key'))
      .replaceAll(/(?<= )\/(shared|data)/g, `${place}/$1`)
      .replaceAll('-o 10001 -g 10001', `-o ${process.getuid!()} -g ${process.getgid!()}`);
    const prepare = () =>
      spawnSync('sh', ['-euc', script], { encoding: 'utf8', env: { ...process.env, HOSTNAME: 'pod' } });
    assert.deepEqual([prepare().status, prepare().status], [0, 0]);
    assert.deepEqual(readdirSync(join(place, 'shared/keys')), ['root.key']);
    assert.deepEqual(readFileSync(join(place, 'shared/keys/root.key')), Buffer.alloc(32, 7));
    writeFileSync(join(place, 'secret.key'), Buffer.alloc(32, 8));
    assert.notEqual(prepare().status, 0, 'another root key than the one in use is told');
  });
});
