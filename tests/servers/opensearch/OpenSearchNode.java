import java.nio.file.Path;
import java.util.List;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;
import org.opensearch.Version;
import org.opensearch.common.logging.LogConfigurator;
import org.opensearch.common.settings.Settings;
import org.opensearch.env.Environment;
import org.opensearch.node.Node;
import org.opensearch.plugins.PluginInfo;
import org.opensearch.transport.Netty4ModulePlugin;

/**
 * Starts a real single OpenSearch node from its Maven artifacts, on loopback: there is no security among them.
 *
 * <p>Arguments are settings, {@code name=value}.
 */
public final class OpenSearchNode extends Node {
    private OpenSearchNode(Environment environment) {
        super(environment, List.of(transport()), true);
    }

    private static PluginInfo transport() {
        String version = Version.CURRENT.toString();
        String plugin = Netty4ModulePlugin.class.getName();
        return new PluginInfo("transport-netty4", "HTTP", version, Version.CURRENT, "21", plugin, null, List.of(), false);
    }

    public static void main(String[] arguments) throws Exception {
        Settings.Builder settings = Settings.builder();
        for (String argument : arguments) {
            int equals = argument.indexOf('=');
            settings.put(argument.substring(0, equals), argument.substring(equals + 1));
        }
        Environment environment = new Environment(settings.build(), Path.of(settings.get("path.home"), "config"));
        LogConfigurator.configureWithoutConfig(environment.settings());
        Node node = new OpenSearchNode(environment);
        CountDownLatch stopped = new CountDownLatch(1);
        Runtime.getRuntime().addShutdownHook(new Thread(() -> close(node, stopped), "opensearch-shutdown"));
        node.start();
        stopped.await();
    }

    private static void close(Node node, CountDownLatch stopped) {
        try {
            node.close();
            node.awaitClose(10, TimeUnit.SECONDS);
        } catch (Exception failure) {
            failure.printStackTrace();
        } finally {
            stopped.countDown();
        }
    }
}
