import java.time.Instant;
import java.util.Map;
import java.util.function.BiFunction;
import org.apache.flink.configuration.Configuration;
import org.apache.flink.table.annotation.DataTypeHint;
import org.apache.flink.table.api.EnvironmentSettings;
import org.apache.flink.table.api.TableEnvironment;
import org.apache.flink.table.functions.FunctionContext;
import org.apache.flink.table.functions.ScalarFunction;

/** Raw customers in, clean ones out, with Flink SQL and a function for each record: one task, at least once. */
public final class NormalizeInSql {
    public static void main(String[] arguments) {
        Map<String, String> environment = System.getenv();
        Configuration configuration = new Configuration();
        configuration.setString("parallelism.default", "1");
        configuration.setString("pipeline.object-reuse", "true");
        configuration.setString("execution.checkpointing.interval", "10 s");
        TableEnvironment flink = TableEnvironment.create(
            EnvironmentSettings.newInstance().inStreamingMode().withConfiguration(configuration).build());
        flink.createTemporarySystemFunction("clean_customer", Clean.class);
        BiFunction<String, String, String> kafka = (topic, more) -> """
            'connector' = 'kafka', 'topic' = '%s', 'properties.bootstrap.servers' = '%s',
            'key.format' = 'raw', 'key.fields' = 'key', 'value.format' = 'raw', 'value.fields-include' = 'EXCEPT_KEY', %s
            """.formatted(environment.get(topic), environment.get("KAFKA_BOOTSTRAP_SERVERS"), more);
        flink.executeSql("""
            CREATE TABLE `raw` (
                `key` BYTES, `value` BYTES,
                `partition` INT METADATA VIRTUAL, `offset` BIGINT METADATA VIRTUAL,
                `timestamp` TIMESTAMP_LTZ(3) METADATA VIRTUAL, `headers` MAP<STRING, BYTES> METADATA VIRTUAL
            ) WITH (%s)""".formatted(kafka.apply("PEER_RAW", """
                'scan.startup.mode' = 'earliest-offset', 'properties.group.id' = '%s',
                'properties.isolation.level' = 'read_committed', 'properties.max.poll.records' = '5000'
                """.formatted(environment.get("PEER_GROUP")))));
        // As Kafka's documentation advises for throughput: wait a little, fill large batches, compress.
        flink.executeSql("CREATE TABLE `clean` (`key` BYTES, `value` BYTES) WITH (%s)".formatted(
            kafka.apply("PEER_CLEAN", """
                'sink.delivery-guarantee' = 'at-least-once', 'properties.acks' = 'all', 'properties.linger.ms' = '100',
                'properties.batch.size' = '262144', 'properties.compression.type' = 'lz4'
                """)));
        flink.executeSql("""
            INSERT INTO `clean`
            SELECT `key`, clean_customer(`value`, '%s', `partition`, `offset`, `timestamp`, `headers`) FROM `raw`
            """.formatted(environment.get("PEER_RAW")));
    }

    /** The clean value of a customer. Ends the job for one that is refused: none of a benchmark's is. */
    public static final class Clean extends ScalarFunction {
        private transient Customers customers;

        @Override
        public void open(FunctionContext context) {
            customers = new Customers();
        }

        public byte[] eval(byte[] raw, String topic, Integer partition, Long offset,
            @DataTypeHint("TIMESTAMP_LTZ(3)") Instant time, @DataTypeHint("MAP<STRING, BYTES>") Map<String, byte[]> headers) {
            Customers.Outcome outcome = customers.normalize(raw, new Customers.Origin(topic, partition, offset,
                time.toEpochMilli(), text(headers.get("headrace-source")), text(headers.get("headrace-kind"))));
            if (outcome.failure() != null) {
                throw new IllegalStateException("refused: " + outcome.failure());
            }
            return outcome.value();
        }

        private static String text(byte[] value) {
            return value == null ? null : new String(value, java.nio.charset.StandardCharsets.UTF_8);
        }
    }
}
