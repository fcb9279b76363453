"""Krita's own importer ("Import Python Plugin from File") on an archive of scripts/package.

    test_importer.py ARCHIVE                        imports it into a new folder, and looks at what is there
    test_importer.py --install ARCHIVE FOLDER       only imports it, into a folder of Krita's resources
"""
import builtins
import os
import subprocess
import sys
import tempfile
import zipfile

IMPORTER = "/usr/share/krita/pykrita/plugin_importer"
HERE = os.path.dirname(os.path.abspath(__file__))


def importer():
    """The importer's code as Krita installs it, or as Debian packs it where Krita is not installed."""
    sys.path.insert(0, IMPORTER)
    # Krita's translation function.
    builtins.i18n = lambda text: text
    import plugin_importer
    return plugin_importer


def install(archive, folder):
    def overwrite(plugin):
        raise SystemExit("%s is installed already" % plugin["name"])
    imported = importer().PluginImporter(archive, folder, overwrite).import_all()
    assert [plugin["name"] for plugin in imported] == ["libnada"], imported
    assert imported[0]["action"] == "actions/libnada.action", imported


def main():
    if sys.argv[1] == "--install":
        install(*sys.argv[2:])
        return
    archive = sys.argv[1]
    with zipfile.ZipFile(archive) as file:
        entries = file.infolist()
        assert [e.filename for e in entries] == sorted(e.filename for e in entries), "the entries are not sorted"
        assert len({e.date_time for e in entries}) == 1, "the entries have different times"
    with tempfile.TemporaryDirectory() as folder:
        install(archive, folder)
        plugin = os.path.join(folder, "pykrita", "libnada")
        for name in ("LICENSE-MIT", "LICENSE-APACHE", "LICENSE-open_clip", "LICENSE-mtcnn", "THIRD-PARTY.txt", "models/starter/ATTRIBUTION.md",
                     "Manual.html", "../libnada.desktop", "../../actions/libnada.action"):
            assert os.path.getsize(os.path.join(plugin, name)), name
        # In a process without the variables that tests set: the library and the starter are those of the archive.
        code = """
import os, sys
from libnada import work
engine = work.Engine(os.path.join(%r, "domains"))
assert engine.library.file == os.path.join(%r, "libnada.so.3"), engine.library.file
# Before the starter of the tree that the library was built from.
assert engine.models()[0].folder == os.path.join(%r, "models", "starter"), engine.models()
result = engine.new_domain(work.Wish(target="a zombie", steps=1), lambda report: None)
assert os.path.dirname(result.file) == os.path.join(%r, "domains"), result.file
""" % (folder, plugin, plugin, folder)
        environment = {key: value for key, value in os.environ.items() if not key.startswith("NADA_")}
        environment["PYTHONPATH"] = os.path.dirname(plugin)
        subprocess.run([sys.executable, "-c", code], check=True, env=environment, cwd=folder)


main()
