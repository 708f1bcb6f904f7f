// Bundle the views into the Python package: one ES module and one stylesheet each, the same bytes on every machine.
import { build } from "esbuild";

await build({
  entryPoints: ["src/loader.ts", ...["compare", "forms", "job_card"].flatMap((name) => [`src/${name}.ts`, `src/${name}.css`])],
  outdir: "aml_widgets/static",
  bundle: true,
  minify: true,
  format: "esm",
  target: "es2022",
  legalComments: "inline",
  logLevel: "warning",
});
