"""Spark jobs and steps through the unmodified SDK, run by Spark itself."""

import contextlib
import json
import os
import signal
import time
import zipfile
from pathlib import Path

import psutil
import pytest
from azure.ai.ml import Input, Output, dsl, load_job, spark
from azure.core.exceptions import HttpResponseError

pytest.importorskip("pyspark", reason="needs the extra `spark`")

CONF = {
    "driver_cores": 1,
    "driver_memory": "1g",
    "executor_cores": 1,
    "executor_memory": "600m",
    "executor_instances": 2,
    "resources": {"instance_type": "standard_e4s_v3", "runtime_version": "3.4"},
    "conf": {"spark.driver.extraJavaOptions": "-XX:TieredStopAtLevel=1"},  # jobs are short
}
YAML_CONF = {
    **CONF["conf"],
    "spark.driver.cores": 1,
    "spark.driver.memory": "1g",
    "spark.executor.cores": 1,
    "spark.executor.memory": "1g",
    "spark.dynamicAllocation.enabled": True,
    "spark.dynamicAllocation.minExecutors": 1,
    "spark.dynamicAllocation.maxExecutors": 1,
}
PROGRAM = """
import json
import sys
from pathlib import Path
from pyspark.sql import SparkSession

spark = SparkSession.builder.appName("count").getOrCreate()
rows, made = sys.argv[sys.argv.index("--rows") + 1], sys.argv[sys.argv.index("--made") + 1]
frame = spark.read.csv(rows, header=True, inferSchema=True)
frame.groupBy("kind").sum("size").write.mode("overwrite").parquet(made + "/sums")
total = frame.rdd.map(lambda row: row["size"]).sum()
conf = spark.sparkContext.getConf()
facts = {"total": total, "master": spark.sparkContext.master, "argv": sys.argv[1:]}
facts |= {key: conf.get(key) for key in ("spark.driver.memory", "spark.ui.enabled", "spark.my.own")}
Path(made, "text").write_text(json.dumps(facts))
"""


@pytest.fixture
def code(tmp_path):
    """A folder for the code of a job; call it with the files it holds."""

    def call(**files):
        folder = tmp_path / "code"
        folder.mkdir(exist_ok=True)
        for name, text in files.items():
            (folder / f"{name}.py").write_text(text)
        return folder

    return call


@pytest.fixture
def rows(tmp_path):
    path = tmp_path / "rows.csv"
    path.write_text("kind,size\na,1\nb,2\na,4\n")
    return Input(type="uri_file", path=str(path), mode="direct")


def made():
    return Output(type="uri_folder", mode="direct")


def log(client, job, folder):
    client.jobs.download(job.name, download_path=folder, all=True)
    return next(Path(folder).rglob("std_log.txt")).read_text()


def test_a_spark_job_reads_its_inputs_and_writes_its_outputs(
    client, run, read, code, rows, tmp_path
):
    job = spark(
        code=str(code(main=PROGRAM)),
        entry={"file": "main.py"},
        inputs={"rows": rows, "word": "two words"},
        outputs={"made": made()},
        args="--rows ${{inputs.rows}} --made ${{outputs.made}} '${{inputs.word}}' *.py $HOME",
        **{**CONF, "conf": {**CONF["conf"], "spark.my.own": "mine"}},
    )
    done = run(job)
    said = log(client, done, tmp_path / "log")
    assert done.status == "Completed", said
    facts = json.loads(read(done, "made"))
    assert facts["total"] == 7
    assert facts["argv"][4:] == ["two words", "*.py", "$HOME"]
    assert facts["master"] == f"local[{min(2, len(os.sched_getaffinity(0)))}]"
    assert (facts["spark.driver.memory"], facts["spark.ui.enabled"]) == ("1024m", "false")
    assert facts["spark.my.own"] == "mine"
    assert list((tmp_path / f"{done.name}-made").rglob("*.parquet"))
    assert "Spark 3.4 was asked for" in said
    assert "spark.executor.instances" in said
    assert " INFO " not in said


def test_a_spark_job_takes_its_libraries_along(run, read, code):
    main = """
import sys
from pathlib import Path
import helper, packed
from pyspark import SparkFiles
from pyspark.sql import SparkSession

context = SparkSession.builder.getOrCreate().sparkContext
words = context.parallelize([1]).map(lambda n: helper.word() + packed.word()).collect()
words.append(Path(SparkFiles.get("f.txt")).read_text())
words.append(Path(SparkFiles.get("data.zip"), "inside.txt").read_text())
Path(sys.argv[1], "text").write_text(" ".join(words))
"""
    folder = code(main=main, helper="def word():\n    return 'helped '")
    (folder / "f.txt").write_text("from-file")
    for name, member, text in (
        ("packed.zip", "packed.py", "def word():\n    return 'packed'"),
        ("data.zip", "inside.txt", "from-archive"),
    ):
        with zipfile.ZipFile(folder / name, "w") as archive:
            archive.writestr(member, text)
    job = spark(
        code=str(folder),
        entry={"file": "main.py"},
        py_files=["helper.py", "packed.zip"],
        files=["f.txt"],
        archives=["data.zip"],
        outputs={"made": made()},
        args="${{outputs.made}}",
        **CONF,
    )
    done = run(job)
    assert done.status == "Completed"
    assert read(done, "made") == "helped packed from-file from-archive"


def test_where_spark_is_missing_jobs_and_steps_are_refused(client_without, code):
    client = client_without("pyspark")
    job = spark(code=str(code(main="pass")), entry={"file": "main.py"}, **CONF)

    @dsl.pipeline
    def pipeline():
        job()

    for asked in (job, pipeline()):
        with pytest.raises(HttpResponseError, match="'aml-magics\\[spark\\]'") as refused:
            client.jobs.create_or_update(asked)
        assert refused.value.status_code == 501


FAILURES = {
    "exit code": ("import sys; sys.exit(3)", {}, "exited with status code 3"),
    "exception": ("raise ValueError('of its own')", {}, "ValueError: of its own"),
    "missing file": ("", {"py_files": ["none.py"]}, "none.py is not in the code"),
    "memory": ("", {"driver_memory": "much"}, "much is no amount of memory"),
    "address": (
        "",
        {"args": "--in abfss://c@acct.invalid/a.csv"},
        "https://acct.invalid/c/a.csv cannot be fetched",
    ),
}


@pytest.mark.parametrize("name", FAILURES)
def test_a_spark_job_fails_with_its_reason(run, why, code, name):
    program, options, reason = FAILURES[name]
    folder = str(code(main=program or "pass"))
    done = run(spark(code=folder, entry={"file": "main.py"}, **{**CONF, **options}))
    assert done.status == "Failed"
    assert reason in why(done)


def test_an_entry_that_is_a_class_is_refused_by_name(arm):
    """Past the SDK, which refuses it too."""
    entry = {"sparkJobEntryType": "SparkJobScalaEntry", "className": "org.example.Main"}
    body = {"properties": {"jobType": "Spark", "entry": entry, "jars": ["job.jar"]}}
    answer = arm("PUT", "./jobs/of-a-class", body)
    assert answer.status_code == 501
    assert "org.example.Main" in answer.json()["error"]["message"]


def test_an_environment_has_its_packages_beside_spark(run, read, code):
    from azure.ai.ml.entities import Environment

    main = """
import sys
from pathlib import Path
import isodate
from pyspark.sql import SparkSession

context = SparkSession.builder.getOrCreate().sparkContext
found = context.parallelize([1]).map(lambda n: __import__("isodate").__file__).collect()
Path(sys.argv[1], "text").write_text("\\n".join([sys.prefix, isodate.__file__, *found]))
"""
    conda = {"dependencies": ["pip", {"pip": ["isodate==0.7.2"]}]}
    job = spark(
        code=str(code(main=main)),
        entry={"file": "main.py"},
        environment=Environment(conda_file=conda),
        outputs={"made": made()},
        args="${{outputs.made}}",
        **CONF,
    )
    done = run(job, 300)
    assert done.status == "Completed"
    prefix, *modules = read(done, "made").splitlines()
    assert "environments" in prefix
    assert [module.startswith(prefix) for module in modules] == [True, True]


def test_cancel_ends_the_whole_tree(client, ended, code, tmp_path):
    main = f"""
import os, time
from pathlib import Path
from pyspark.sql import SparkSession

def work(n):
    Path({str(tmp_path)!r}, f"worker {{os.getpid()}}").touch()
    time.sleep(600)

Path({str(tmp_path)!r}, f"driver {{os.getpid()}}").touch()
SparkSession.builder.getOrCreate().sparkContext.parallelize([1, 2], 2).foreach(work)
"""
    job = client.jobs.create_or_update(
        spark(code=str(code(main=main)), entry={"file": "main.py"}, **CONF)
    )
    deadline = time.monotonic() + 90
    while not list(tmp_path.glob("worker *")):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    ids = [int(path.name.split()[1]) for path in tmp_path.glob("* [0-9]*")]
    tree = {parent.pid for pid in ids for parent in psutil.Process(pid).parents()} & family(ids)
    client.jobs.begin_cancel(job.name)
    assert ended(job).status == "Canceled"
    _gone, alive = psutil.wait_procs(living([*ids, *tree]), timeout=10)
    for process in alive:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.send_signal(signal.SIGKILL)
    assert not alive


def family(ids):
    """Processes in the session of these."""
    sessions = {os.getsid(pid) for pid in ids}
    return {p.pid for p in psutil.process_iter() if os.getsid(p.pid) in sessions}


def living(ids):
    found = []
    for pid in ids:
        with contextlib.suppress(psutil.NoSuchProcess):
            found.append(psutil.Process(pid))
    return found


def test_steps_of_a_pipeline_hand_frames_on(client, run, read, code, rows, tmp_path):
    (tmp_path / "component.yml").write_text(
        json.dumps(
            {
                "name": "count",
                "type": "spark",
                "code": str(code(main=PROGRAM)),
                "entry": {"file": "main.py"},
                "inputs": {"rows": {"type": "uri_file", "mode": "direct"}},
                "outputs": {"made": {"type": "uri_folder", "mode": "direct"}},
                "args": "--rows ${{inputs.rows}} --made ${{outputs.made}}",
                "conf": YAML_CONF,
            }
        )
    )
    (tmp_path / "code" / "second.py").write_text(
        "import sys\nfrom pathlib import Path\nfrom pyspark.sql import SparkSession\n"
        "frame = SparkSession.builder.getOrCreate().read.parquet(sys.argv[1] + '/sums')\n"
        "sums = sorted(map(tuple, frame.collect()))\n"
        "Path(sys.argv[2], 'text').write_text(str(sums))\n"
    )
    inline = {
        "type": "spark",
        "code": str(tmp_path / "code"),
        "entry": {"file": "second.py"},
        "inputs": {"sums": {"path": "${{parent.jobs.first.outputs.made}}", "mode": "direct"}},
        "outputs": {"text": "${{parent.outputs.text}}"},
        "args": "${{inputs.sums}} ${{outputs.text}}",
        "conf": YAML_CONF,
        "resources": CONF["resources"],
    }
    first = {
        "type": "spark",
        "component": "./component.yml",
        "inputs": {"rows": "${{parent.inputs.rows}}"},
        "resources": CONF["resources"],
    }
    pipeline = {
        "type": "pipeline",
        "inputs": {"rows": {"type": "uri_file", "path": rows.path, "mode": "direct"}},
        "outputs": {"text": {"type": "uri_folder", "mode": "direct"}},
        "jobs": {"first": first, "second": inline},
    }
    (tmp_path / "pipeline.yml").write_text(json.dumps(pipeline))
    done = run(load_job(tmp_path / "pipeline.yml"), 180)
    assert done.status == "Completed"
    assert read(done, "text") == "[('a', 5), ('b', 2)]"
