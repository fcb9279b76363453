"""libnada in Krita: pictures restyled by words. Loaded by Krita this registers the actions and the docker; the modules nada, pixels and
work also work without Krita."""
import importlib.util

if importlib.util.find_spec("krita"):
    from . import plugin
    plugin.register()
