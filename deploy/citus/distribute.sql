-- Spreads the tables of a watchstep store over the nodes of a Citus cluster (or of an engine
-- that takes the same calls), a run's rows all in one place.
--
-- NOT RUN on such an engine: there was none to be had. What is tested is what it rests on: every
-- key begins with the run, and no transaction writes to two runs
-- (tests/store/test_one_run_a_transaction.py).
--
-- Once, before any replica serves: `watchstep db upgrade` on the coordinator makes the schema,
-- then `psql -f distribute.sql`. Later steps of the schema reach the nodes by themselves.

-- The key is a hash of the run's name.
SELECT create_distributed_table('runs', 'run_key');
SELECT create_distributed_table('attempts', 'run_key', colocate_with => 'runs');
SELECT create_distributed_table('shapes', 'run_key', colocate_with => 'runs');
-- Partitioned by week; its partitions follow, and so do those that are made later.
SELECT create_distributed_table('updates', 'run_key', colocate_with => 'runs');
SELECT create_distributed_table('rollups', 'run_key', colocate_with => 'runs');
SELECT create_distributed_table('run_states', 'run_key', colocate_with => 'runs');
SELECT create_distributed_table('alerts', 'run_key', colocate_with => 'runs');
SELECT create_distributed_table('incidents', 'run_key', colocate_with => 'runs');
SELECT create_distributed_table('commands', 'run_key', colocate_with => 'runs');
SELECT create_distributed_table('timeline', 'run_key', colocate_with => 'runs');
SELECT create_distributed_table('outbox', 'run_key', colocate_with => 'runs');
-- Of runs that are no more; a run that takes the name again takes the row away.
SELECT create_distributed_table('deleted_runs', 'run_key', colocate_with => 'runs');

-- Belong to no run; they are few and read everywhere.
SELECT create_reference_table('keys');
SELECT create_reference_table('silences');
SELECT create_reference_table('tokens');

-- LISTEN, NOTIFY and advisory locks work on one node: all replicas connect to the coordinator.
-- Lists over all runs, the look for due deliveries and the sweep of timelines ask every node.
