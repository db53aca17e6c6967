// Enqueues jobs that do nothing, many at once, and has processes work them off in batches: `node measure.mjs PROCESSES`,
// with DATABASE_URL naming an empty database. Prints jobs a second from the first enqueued to the last finished.
import { fork } from "node:child_process";
import { makeWorkerUtils, run } from "graphile-worker";

const JOBS = 20_000;
const BATCH = 1_000;
const connectionString = process.env.DATABASE_URL;

if (process.argv[2] === "work") {
  await run({
    taskList: { nothing: async () => {} },
    parsedCronItems: [],
    preset: {
      worker: {
        connectionString,
        concurrentJobs: 128,
        localQueue: { size: 500 },
        completeJobBatchDelay: 0,
        failJobBatchDelay: 0,
        pollInterval: 200,
      },
    },
  });
  process.send("ready");
} else {
  const utils = await makeWorkerUtils({ connectionString });
  await utils.migrate();
  const workers = Array.from({ length: Number(process.argv[2]) }, () =>
    fork(new URL(import.meta.url), ["work"], { stdio: ["ignore", "ignore", "ignore", "ipc"] }),
  );
  await Promise.all(workers.map((worker) => new Promise((ready) => worker.once("message", ready))));
  const begin = performance.now();
  for (let made = 0; made < JOBS; made += BATCH) {
    const jobs = Array.from({ length: BATCH }, () => ({ identifier: "nothing", payload: {} }));
    await utils.addJobs(jobs);
  }
  const left = "select count(*)::int as left from graphile_worker._private_jobs";
  while ((await utils.withPgClient((client) => client.query(left))).rows[0].left > 0) {
    await new Promise((later) => setTimeout(later, 20));
  }
  console.log(Math.round((JOBS * 1000) / (performance.now() - begin)));
  workers.forEach((worker) => worker.kill("SIGKILL"));
  await utils.release();
}
