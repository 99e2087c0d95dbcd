/** Loaded ahead of a program by `--import`: its wall clock is DIBS_TEST_CLOCK_MS off. */
const offMs = Number(process.env.DIBS_TEST_CLOCK_MS);
const { now } = Date;
Date.now = () => now() + offMs;
