import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Map;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;
import org.elasticsearch.cluster.ClusterName;
import org.elasticsearch.common.logging.LogConfigurator;
import org.elasticsearch.common.settings.Settings;
import org.elasticsearch.env.Environment;
import org.elasticsearch.node.Node;
import org.elasticsearch.plugins.PluginsLoader;

/**
 * Starts a real single Elasticsearch node from its Maven artifacts.
 *
 * <p>The stock main class wants its own command-line launcher, refuses root and loads an entitlement agent that is not
 * among the artifacts; this one goes through the same phases without them. There is therefore no sandbox and no
 * security: loopback only. Arguments are settings, {@code -Ename=value}, and win over elasticsearch.yml.
 */
public final class EsNode {
    private EsNode() {}

    public static void main(String[] args) throws Exception {
        Path home = Path.of(System.getProperty("es.path.home")).toAbsolutePath();
        Path config = Path.of(System.getProperty("es.path.conf")).toAbsolutePath();
        // First of all: classes loaded below create loggers in their static initializers.
        LogConfigurator.configureESLogging();
        LogConfigurator.registerErrorListener();

        Settings settings = settings(home, config, args);
        LogConfigurator.setClusterName(ClusterName.CLUSTER_NAME_SETTING.get(settings).value());
        LogConfigurator.setNodeName(settings.get("node.name", "node-1"));
        Environment environment = new Environment(settings, config);
        LogConfigurator.configure(environment, true);

        var modules = PluginsLoader.loadModulesBundles(environment.modulesDir(), false);
        var plugins = PluginsLoader.loadPluginsBundles(environment.pluginsDir(), false);
        Node node = new Node(environment, PluginsLoader.createPluginsLoader(modules, plugins, Map.of()));

        CountDownLatch stopped = new CountDownLatch(1);
        Runtime.getRuntime().addShutdownHook(new Thread(() -> close(node, stopped), "es-shutdown"));
        node.start();
        stopped.await();
    }

    private static Settings settings(Path home, Path config, String[] args) throws Exception {
        Settings.Builder builder = Settings.builder();
        Path file = config.resolve("elasticsearch.yml");
        if (Files.exists(file)) {
            builder.loadFromPath(file);
        }
        for (String argument : args) {
            int equals = argument.indexOf('=');
            if (!argument.startsWith("-E") || equals < 0) {
                throw new IllegalArgumentException("expected -Ename=value, got " + argument);
            }
            builder.put(argument.substring(2, equals), argument.substring(equals + 1));
        }
        return builder.put("path.home", home.toString()).build();
    }

    private static void close(Node node, CountDownLatch stopped) {
        try {
            node.prepareForClose();
            node.close();
            node.awaitClose(10, TimeUnit.SECONDS);
        } catch (Exception failure) {
            failure.printStackTrace();
        } finally {
            stopped.countDown();
        }
    }
}
