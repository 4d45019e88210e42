// Says what KEDA and the Prometheus operator would refuse of the objects on standard input (a JSON list), one line each.
// The validators made from their definitions check values; TypeScript, with the same models, knows what no field is
// called. Objects of other groups are for other checks and must not come here.

import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";
import { pathToFileURL } from "node:url";

const home = process.argv[2]; // where node_modules is
const require = createRequire(join(home, "package.json"));
const ts = require("typescript");

const PACKAGES = {
  "keda.sh": "@kubernetes-models/keda",
  "monitoring.coreos.com": "@kubernetes-models/prometheus-operator",
};

const objects = JSON.parse(readFileSync(0, "utf8"));
let source = "";
for (const [number, object] of objects.entries()) {
  const name = `${object.kind}/${object.metadata.name}`;
  const [group] = object.apiVersion.split("/");
  if (!(group in PACKAGES)) throw new Error(`${name}: nothing is known of ${object.apiVersion}`);
  const path = `${PACKAGES[group]}/${object.apiVersion}/${object.kind}`;
  const found = await import(pathToFileURL(join(home, "node_modules", `${path}.js`)));
  try {
    new found[object.kind](object).validate();
  } catch (error) {
    console.log(`${name}: ${error.message}`);
  }
  source += `import type { I${object.kind} as T${number} } from "${path}";\n`;
  source += `export const o${number}: T${number} = ${JSON.stringify(object)};\n`;
}

const file = join(home, "objects.ts");
const options = {
  strict: true,
  noEmit: true,
  skipLibCheck: true,
  module: ts.ModuleKind.NodeNext,
  moduleResolution: ts.ModuleResolutionKind.NodeNext,
  types: [],
};
const host = ts.createCompilerHost(options);
const read = host.getSourceFile.bind(host);
host.getSourceFile = (name, ...rest) =>
  name === file ? ts.createSourceFile(name, source, ts.ScriptTarget.Latest) : read(name, ...rest);
const exists = host.fileExists.bind(host);
host.fileExists = (name) => name === file || exists(name);
const program = ts.createProgram([file], options, host);
for (const problem of ts.getPreEmitDiagnostics(program)) {
  const line = problem.file ? problem.file.getLineAndCharacterOfPosition(problem.start).line : 0;
  const object = objects[Math.floor(line / 2)];
  console.log(`${object.kind}/${object.metadata.name}: ${ts.flattenDiagnosticMessageText(problem.messageText, " ")}`);
}
